"""``llava-face overlay``: look at the maps of a training file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("overlay")(overlay)


def overlay(
    data: Annotated[Path, typer.Argument(help="LLaVA training JSON with face_map keys.", metavar="DATA.json")],
    image_folder: Annotated[Path, typer.Option("--image-folder", help="What its image paths are relative to.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("overlay.png"),
    n: Annotated[int, typer.Option("-n", min=1, help="How many samples.")] = 8,
) -> None:
    """Draw image, map and overlay of the first samples of a training file, with a legend."""
    from ..maps.files import open_image, read_map
    from ..maps.overlay import contact_sheet

    rows, titles = [], []
    for sample in itertools.islice(_samples(data), n):
        name = str(sample.get("id", ""))
        image = open_image(image_folder / sample["image"], sample=name)
        labels = read_map(image_folder / sample["face_map"], sample=name) if sample.get("face_map") else None
        rows.append((image, labels))
        present = [a for a, v in sample.get("face_attributes", {}).items() if v == 1]
        titles.append(" ".join([f"{name}:", *(a.replace("_", " ") + "," for a in present)]).rstrip(",:"))
    contact_sheet(rows, out, titles)
    typer.echo(f"wrote {out} ({len(rows)} samples)")


def _samples(data: Path) -> Iterator[dict[str, Any]]:
    from ..errors import FaceDataError

    try:
        content = json.loads(data.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FaceDataError(f"{data}: cannot be read as JSON ({error})") from error
    if not isinstance(content, list):
        raise FaceDataError(f"{data}: expected a list of samples, as LLaVA's --data_path has")
    with_image = [s for s in content if isinstance(s, dict) and "image" in s]
    if not with_image:
        raise FaceDataError(f"{data}: no sample has an image")
    return iter(with_image)
