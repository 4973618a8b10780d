"""From an image to its label map: the parser protocol, maps on disk, and pictures of them."""
