"""Face detectors: from an image to boxes and five points. One file a detector."""
