"""The configured parser, as a host's image processing uses it."""

from __future__ import annotations

import torch

from ..config import FaceConfig
from ..errors import FaceHostError
from ..parsing.base import Parser


def build_parser(config: FaceConfig) -> Parser | None:
    """The parser that gives a map where the data brings none; None if the configuration names none.

    Raises ``FaceHostError`` where a parser on a GPU is asked for in a DataLoader worker, which cannot use one.
    """
    parser = config.segmentation.parser
    if parser is None:
        return None
    on_gpu = parser.type != "precomputed" and torch.device(parser.device).type != "cpu"
    if on_gpu and torch.utils.data.get_worker_info() is not None:
        raise FaceHostError(
            f"the parser {parser.type!r} on {parser.device!r} cannot run in DataLoader workers: set "
            "face.segmentation.parser.device to 'cpu', or make the maps first with `llava-face segment` and set "
            "parser.type to 'precomputed'"
        )
    from ..parsing.build import build_parser as build

    return build(parser)
