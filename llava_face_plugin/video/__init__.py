"""Clips: from a video file or a folder of frames to pixels with times, and crops that follow a face."""

from __future__ import annotations

from .frames import Frames, read_frames, read_uniform
from .sampling import Sampling

__all__ = ["Frames", "Sampling", "read_frames", "read_uniform"]
