"""Parsing networks: from a face crop to class logits. One file a kind of checkpoint."""
