"""Label maps: their vocabularies, files, stores, checks, and pictures of them."""
