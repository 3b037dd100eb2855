"""How well a model reads: what it said of images, measured against what is true of them."""
