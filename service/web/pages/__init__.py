"""The pages of the node, one file each, made on the server and readable without any script."""
