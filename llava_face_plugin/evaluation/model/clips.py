"""Video files as frames, for hosts that read video."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import FaceDataError, FaceHostError
from ...segment.images import file_status


def read_clip(path: Path, frames: int) -> np.ndarray:
    """(frames, H, W, 3) uint8 RGB, spread evenly from the first to the last, as lmms-eval's ``llava_hf`` takes them.

    A clip of fewer frames shows some twice. Raises ``FaceDataError`` for a file that cannot be read, ``FaceHostError``
    without decord.
    """
    try:
        import decord
    except ImportError as error:
        raise FaceHostError("questions about videos need decord (pip install decord)") from error
    file_status(path)
    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        chosen = np.linspace(0, len(reader) - 1, frames, dtype=int)
        clip: np.ndarray = reader.get_batch(chosen.tolist()).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        raise FaceDataError(f"video {path}: cannot be read: {str(error).splitlines()[0]}", "damaged") from error
    return clip
