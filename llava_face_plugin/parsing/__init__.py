"""From an image to its label map: detectors, parsing networks, and the parsers made of both."""
