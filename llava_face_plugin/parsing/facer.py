"""FaRL's parsing networks (Zheng et al., 2022) as pyfacer 0.0.5 runs them: its loader, its crops, its network call.

Three steps of ``FaRLFaceParser.forward`` are done differently, with the same labels (tests compare the two):
- the crop is sampled channel by channel, without a float copy of the whole photograph;
- several faces, of several images, go through the network together;
- logits are brought back tile by tile and become labels at once. facer makes 19 x H x W floats for each face, and keeps
  sampling grids of the last 128 image sizes for ever (``transform._meshgrid``); tiles of one size keep that small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import FaceDataError
from ..maps.vocabularies import TO_CANONICAL
from ..parser_config import ParserConfig
from .cropped import CropParser, View
from .detectors.base import Detection, Detector
from .extras import import_extra
from .geometry import usable
from .networks.torchscript import check_classes
from .weights import checked, facer_cache

FILES = {
    "farl/celebm/448": "face_parsing.farl.celebm.main_ema_181500_jit.pt",
    "farl/lapa/448": "face_parsing.farl.lapa.main_ema_136500_jit191.pt",
}
VOCABULARY = {"farl/celebm/448": "celebm", "farl/lapa/448": "lapa"}


class FarlNetwork:
    """A ``networks.base.Network`` around facer's parser."""

    size = 448

    def __init__(self, config: ParserConfig) -> None:
        """Raises ``FaceDataError`` for a missing file, a wrong hash, or no TorchScript; ``FaceHostError`` without a
        working facer."""
        facer = import_extra("facer", "facer")
        self.path = config.path or str(facer_cache(FILES[config.model]))
        self.digest = checked(self.path, config.sha256, needs_hash=True)
        self.vocabulary = VOCABULARY[config.model]
        self.to_canonical = TO_CANONICAL[self.vocabulary]
        try:
            self.parser = facer.face_parser(config.model, torch.device(config.device), model_path=self.path)
        except (RuntimeError, ValueError) as error:
            raise FaceDataError(f"weights {self.path}: no TorchScript file ({error})", "format") from error

    def __call__(self, crops: Tensor) -> Tensor:
        """See ``networks.base.Network``. Raises ``FaceConfigError`` if the file is the other network's.

        facer guesses the range from the largest value, and asserts: on black uint8 images (these are floats) and on
        1.0000001, which interpolation between white pixels gives: hence the clamp.
        """
        logits = self.parser.forward_warped(crops.clamp(0.0, 1.0), return_preds=False)
        check_classes(logits, self.vocabulary, self.path)
        return logits


class FarlView:
    """facer's crop of one face: the similarity by its five points and, for lapa, the tanh warp over the whole image."""

    def __init__(self, setting: dict[str, Any], matrix: Tensor, size: tuple[int, int]) -> None:
        self.setting, self.matrix = setting, matrix
        self.area = (0, 0, *size)

    def crop(self, image: Image.Image) -> Tensor:
        """(3, 448, 448) float32 RGB in [0, 1]; black outside the image."""
        grid = self.setting["get_grid_fn"](matrix=self.matrix, orig_shape=(image.height, image.width))
        return sample(image, grid[0])

    def grid(self, x0: int, y0: int, tile: int, device: torch.device) -> Tensor:
        """See ``geometry.Grid``. facer's own inverse grid, of an image that begins at (x0, y0)."""
        shift = torch.eye(3)
        shift[0, 2], shift[1, 2] = x0, y0
        matrix = (self.matrix @ shift).to(device)
        return self.setting["get_inv_grid_fn"](matrix=matrix, orig_shape=(tile, tile))[0]


class FacerParser(CropParser):
    """Detector and FaRL. Types and ids as everywhere; ``align`` and ``size`` do not apply."""

    def __init__(self, detector: Detector, config: ParserConfig) -> None:
        network = FarlNetwork(config)
        setting = network.parser.setting

        def framing(detection: Detection, face: int, size: tuple[int, int], side: int) -> View | None:
            assert detection.points is not None  # ParserConfig asks for a detector with points
            with np.errstate(divide="ignore", invalid="ignore"):
                matrix = setting["get_matrix_fn"](torch.from_numpy(detection.points[face : face + 1]))
            return FarlView(setting, matrix, size) if usable(matrix[0].double().numpy()) else None

        super().__init__("facer", detector, network, framing, config)


def sample(image: Image.Image, grid: Tensor) -> Tensor:
    """facer's sampling of an RGB image at grid (h, w, 2): (3, h, w) float32 in [0, 1].

    Channel by channel: of a large photo 4 bytes a pixel are held as floats at a time, not 12.
    """
    planes = []
    for plane in image.split():
        pixels = torch.from_numpy(np.array(plane))[None, None].float() / 255.0
        planes.append(F.grid_sample(pixels, grid[None], mode="bilinear", align_corners=False)[0, 0])
    return torch.stack(planes)
