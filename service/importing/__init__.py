"""Taking images from files, folders and zip files: ``sources`` finds them, ``importer`` takes them."""
