"""Training in stages: what is trained in which, and how each host is told so."""

from __future__ import annotations

from .parts import PARTS, part_of
from .plan import Stage, StageFile, load_stages

__all__ = ["PARTS", "Stage", "StageFile", "load_stages", "part_of"]
