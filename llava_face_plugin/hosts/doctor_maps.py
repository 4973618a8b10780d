"""The doctor's look at the map store and the parser that a model directory names."""

from __future__ import annotations

from ..config import SegmentationConfig
from ..errors import FaceError
from ..maps.lookup import StoreMaps, open_maps
from .doctor import Report


def check_maps_and_parser(report: Report, segmentation: SegmentationConfig) -> None:
    """Opens both. The parser is built on the CPU, so that a login node without a GPU can check weights and hashes."""
    made_by = None
    if segmentation.maps is not None:
        try:
            maps = open_maps(segmentation.maps)
        except FaceError as error:
            report.add("problem", "segmentation.maps", str(error))
        else:
            made_by = maps.store.info if isinstance(maps, StoreMaps) else None
            told = f" (parser {made_by.parser!r})" if made_by else ""
            report.add("ok", "segmentation.maps", f"{segmentation.maps}{told}")
    if segmentation.parser is None:
        return
    from ..parsing.build import build_parser

    try:
        parser = build_parser(segmentation.parser.model_copy(update={"device": "cpu"}))
    except FaceError as error:
        report.add("problem", "segmentation.parser", str(error))
        return
    report.add("ok", "segmentation.parser", f"{parser.name}, {parser.digest[:12]}...")
    if made_by is not None and parser.name != "precomputed" and made_by.digest != parser.digest:
        report.add(
            "warning",
            "segmentation.parser",
            f"the store's maps were made by another parser ({made_by.parser!r}, {made_by.digest[:12]}...): trained on "
            "one parser's maps, the model would be asked with another's",
        )
