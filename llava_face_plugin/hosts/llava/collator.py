"""``FaceCollator``: attribute labels in the batches of both packages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class FaceCollator:
    """Upstream's collator, plus one batch key: ``face_attributes`` (B, A) int8, -1 = unknown.

    A row for each image, video and text-only sample, in the order of the batch's images. A sample's own
    ``face_attributes`` is one row, (A,), or several, (visuals, A).
    """

    def __init__(self, base: Any) -> None:
        self.base = base

    def __getattr__(self, name: str) -> Any:
        if name == "base" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.base, name)

    def __call__(self, instances: Sequence[dict[str, Any]]) -> dict[str, Any]:
        batch = self.base(instances)
        batch["face_attributes"] = torch.cat([torch.atleast_2d(item["face_attributes"]) for item in instances])
        return batch
