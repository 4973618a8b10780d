"""RetinaFace (Deng et al., 2020) through pyfacer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...errors import FaceDataError
from ..extras import import_extra
from ..weights import checked, facer_cache, read_state_dict
from .base import Detection
from .bounded import bounded, detection, two_looks

PIXELS_A_BATCH = 2_000_000
"""Images of one size go through together, up to this many pixels (our default): facer builds its anchors anew for each
call, in Python, which costs more than the network on small pictures."""

FILES = {"mobilenet": "mobilenet0.25_Final.pth", "resnet50": "Resnet50_Final.pth"}


class RetinaFace:
    """Five points and a box a face."""

    def __init__(
        self, model: str, path: str | None, min_score: float, device: torch.device, sha256: str | None = None,
        *, every: bool = True,
    ) -> None:  # fmt: skip
        """``model`` is a key of ``FILES``; without a ``path`` the file of facer's own cache is used. ``every``:
        look for small faces too where large ones are found.

        Raises ``FaceDataError`` if the file is missing, damaged, or holds another network.
        """
        facer = import_extra("facer", "facer")
        file = path or str(facer_cache(FILES[model]))
        self.digest = checked(file, sha256, needs_hash=False)
        weights = read_state_dict(file)
        benchmark = torch.backends.cudnn.benchmark
        try:
            self.net = facer.face_detector(f"retinaface/{model}", device, model_path=file, threshold=min_score)
        except (AssertionError, RuntimeError) as error:
            raise FaceDataError(f"detector {file}: these are no weights of RetinaFace {model} ({error})") from error
        finally:
            torch.backends.cudnn.benchmark = benchmark  # facer switches it on for the whole process
        # facer loads with strict=False: a wrong file would leave random weights in silence.
        missing = sorted(set(self.net.net.state_dict()) - set(weights))
        if missing:
            raise FaceDataError(f"detector {file}: no weights of RetinaFace {model}, it lacks {missing[:3]} ...")
        self.min_score, self.every = min_score, every
        self.device = device

    def detect(self, images: Sequence[Image.Image]) -> list[Detection]:
        """See ``base.Detector``. Images of one size are detected together."""
        return two_looks(images, self._at, self.every)

    def _at(self, images: Sequence[Image.Image], longest: int) -> list[Detection]:
        pictures = [bounded(image, longest) for image in images]
        same_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, (pixels, _) in enumerate(pictures):
            same_size[pixels.shape].append(i)
        found: dict[int, Detection] = {}
        for (height, width, _), members in same_size.items():
            step = max(1, PIXELS_A_BATCH // (height * width))
            for start in range(0, len(members), step):
                chunk = members[start : start + step]
                faces = self._forward(np.stack([pictures[i][0] for i in chunk]))
                for place, i in enumerate(chunk):
                    mine = faces["image_ids"] == place
                    scale = pictures[i][1]
                    found[i] = detection(
                        faces["rects"][mine] / scale, faces["points"][mine] / scale, faces["scores"][mine],
                        images[i].size, self.min_score,
                    )  # fmt: skip
        return [found[i] for i in range(len(images))]

    def _forward(self, pixels: np.ndarray) -> dict[str, Any]:
        with torch.inference_mode():
            faces = self.net(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device))
        return {name: value.cpu().numpy() for name, value in faces.items()}
