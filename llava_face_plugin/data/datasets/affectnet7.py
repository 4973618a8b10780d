"""AffectNet with the 7 expressions without contempt: see ``affectnet``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..manifest import Manifest
from . import affectnet
from .base import ReadOptions


def read(root: Path, options: ReadOptions) -> Manifest:
    """As ``affectnet.read``; images of contempt are left out and counted. Raises ``FaceDataError``."""
    return affectnet.read_classes(INFO, 7, root, options)


INFO = replace(affectnet.INFO, name="affectnet7", title="AffectNet (7 expressions)", read=read)
