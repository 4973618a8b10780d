"""Thin seams, one per host. They may import the core; the core never imports them."""
