"""A clip's frames cut to one person's face, by a detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FaceDataError
from ..parsing.detectors.base import Detector
from .faces import CANDIDATES, best_faces, best_of_parts, detections
from .folder import RATE
from .frames import Frames, opened, take
from .sampling import Sampling, uniform
from .track import PAD, follow, smooth_boxes, squares

LEAST_SEEN = 0.5
"""Share of the frames that are looked at in which the face must be found (our default): what is between is guessed."""


@dataclass(frozen=True)
class FaceTrack:
    """Frames of a clip and where one face is in them."""

    frames: Frames
    squares: np.ndarray
    """(F, 4) int64 x0 y0 x1 y1, all of one side; they may reach beyond the picture (``track.crop_frames``)."""
    seen: float
    """In which share of the frames that were looked at the face was found."""


def track_face(
    path: str | Path,
    sampling: Sampling,
    detector: Detector,
    *,
    pad: float = PAD,
    least_seen: float = LEAST_SEEN,
    rate: float = RATE,
    decoder: str | None = None,
) -> FaceTrack:
    """The frames that ``sampling`` chooses, and the face that is followed through them.

    The detector looks at four times as many frames, for a face is followed by the overlap of its boxes. With sampling
    ``face`` frames are chosen by the largest and most frontal face in them, whoever's it is.

    Raises ``FaceDataError`` as ``read_frames``, and where the face is found in a smaller share than ``least_seen``.
    """
    clip = opened(path, rate, decoder)
    times = clip.times()
    looked_at = uniform(len(times), CANDIDATES * sampling.n)
    if sampling.kind != "face":
        looked_at = np.union1d(looked_at, sampling.places(times))
    found = detections(detector, clip.pictures(looked_at))
    boxes = follow(found)
    seen = float(np.isfinite(boxes).all(axis=1).mean())
    if seen == 0 or seen < least_seen:
        told = f"a face in {seen:.0%} of {len(looked_at)} frames, less than {least_seen:.0%}" if seen else "no face"
        raise FaceDataError(f"{clip.where}: {told}", "no face" if seen == 0 else "a face in too few frames")
    boxes = smooth_boxes(boxes, times[looked_at])
    if sampling.kind == "face":
        places = best_of_parts(best_faces(found)[0], sampling.n)
    else:
        places = np.searchsorted(looked_at, sampling.places(times))
    return FaceTrack(take(clip, times, looked_at[places]), squares(boxes[places], pad), seen)
