"""The errors a user can meet. Each message names the file, line, key or sample at fault, and what to do."""


class FaceError(Exception):
    """Base of every error this package raises on purpose."""


class FaceConfigError(FaceError, ValueError):
    """The ``face`` block of a ``config.json`` is not valid."""


class FaceDataError(FaceError, ValueError):
    """An input file (annotation, map, image, knowledge file) is not what it should be."""


class FaceHostError(FaceError, RuntimeError):
    """The host (llava, transformers) is not one that this version knows, or is set up wrongly."""
