"""The errors a user can meet. Each message names the file, line, key or sample at fault, and what to do."""


class FaceError(Exception):
    """Base of every error this package raises on purpose."""


class FaceConfigError(FaceError, ValueError):
    """The ``face`` block of a ``config.json`` is not valid."""


class FaceDataError(FaceError, ValueError):
    """An input file (annotation, map, image, knowledge file) is not what it should be.

    ``reason`` is a short word for counting: ``missing``, ``empty``, ``format``, ``too-large``, ``damaged``, or
    ``invalid`` where none of these fits.
    """

    def __init__(self, message: str, reason: str = "invalid") -> None:
        super().__init__(message)
        self.reason = reason


class FaceHostError(FaceError, RuntimeError):
    """The host (llava, transformers) is not one that this version knows, or is set up wrongly."""
