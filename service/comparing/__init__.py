"""Two models that read the same images: where they agree, and which studies they differ on most."""
