"""``llava-face overlay``: look at maps on their faces."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from ..maps.lookup import Maps
    from ..maps.overlay import Row


class Item(NamedTuple):
    """One thing to draw."""

    title: str
    image: Path
    face_map: Path | None
    """The map that the sample itself names."""
    name: str
    """What the image is called in a store or folder of maps."""


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("overlay")(overlay)


def overlay(
    source: Annotated[
        Path,
        typer.Argument(help="LLaVA training JSON, folder of images, map store, or one image.", metavar="INPUT"),
    ],
    image_folder: Annotated[
        Path | None, typer.Option("--image-folder", help="JSON and store: what image paths are relative to.")
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(help="Map store, folder of maps, index.json or parquet, for images that name no face_map."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("overlay.png"),
    n: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 8,
    start: Annotated[int, typer.Option(min=0, help="How many images to pass over first.")] = 0,
    picture: Annotated[bool, typer.Option("--picture", help="One image with its map on it, and nothing else.")] = False,
    alpha: Annotated[float, typer.Option(min=0.0, max=1.0, help="--picture: opacity of the map.")] = 0.5,
) -> None:
    """Draw images, their maps and both together, with a legend of the parts."""
    from ..errors import FaceDataError
    from ..maps.files import atomic_path
    from ..maps.lookup import STORE_NAME, open_maps
    from ..maps.overlay import blend, contact_sheet

    stored = (source / STORE_NAME).is_file()
    lookup = open_maps(maps or source) if maps is not None or stored else None
    items = itertools.islice(_items(source, image_folder, stored), start, None)
    drawn, skipped = _first(items, 1 if picture else n, lookup)
    if not drawn:
        why = f"; {len(skipped)} cannot be read, the first: {skipped[0]}" if skipped else ""
        raise FaceDataError(f"{source}: no image to draw (after passing over {start}){why}")
    rows = [row for _, row in drawn]
    without = sum(labels is None for _, labels in rows)
    try:
        if picture:
            ((item, (image, labels)),) = drawn
            if labels is None:
                raise FaceDataError(f"{item.image}: there is no map of it")
            with atomic_path(out) as temporary:
                blend(image, labels, alpha).save(temporary, format="PNG")
            typer.echo(f"wrote {out} ({item.name})")
        else:
            contact_sheet(rows, out, [item.title for item, _ in drawn])
            typer.echo(f"wrote {out} ({len(rows)} images" + (f", {without} without a map)" if without else ")"))
    except OSError as error:
        raise FaceDataError(f"--out {out}: cannot be written ({error.strerror or error})", "unwritable") from error
    if skipped:
        typer.echo(f"passed over {len(skipped)} that cannot be drawn:", err=True)
        for message in skipped:
            typer.echo(f"  {message}", err=True)


def _first(items: Iterable[Item], n: int, lookup: Maps | None) -> tuple[list[tuple[Item, Row]], list[str]]:
    """The first ``n`` items that can be drawn, and what was wrong with those before them."""
    from ..errors import FaceDataError
    from ..maps.rows import one_line

    drawn: list[tuple[Item, Row]] = []
    skipped: list[str] = []
    for item in items:
        try:
            drawn.append((item, _row(item, lookup)))
        except FaceDataError as error:
            skipped.append(one_line(str(error)))
        if len(drawn) == n:
            break
    return drawn, skipped


def _row(item: Item, lookup: Maps | None) -> Row:
    from ..maps.files import open_image, read_map
    from ..maps.keys import pixel_key

    image = open_image(item.image, sample=item.title)
    if item.face_map is not None:
        return image, read_map(item.face_map, sample=item.title)
    if lookup is None:
        return image, None
    labels = lookup.by_name(item.name)
    return image, labels if labels is not None else lookup.by_pixels(pixel_key(image))


def _items(source: Path, image_folder: Path | None, stored: bool) -> Iterable[Item]:
    from ..errors import FaceDataError
    from ..maps.files import IMAGE_SUFFIXES
    from ..maps.store import MapStore

    if stored:
        folder = _needed(image_folder, source)
        names = (row.image for row in MapStore.open(source).rows() if row.status == "ok")
        return (Item(name, folder / name, None, name) for name in names)
    if source.suffix.lower() == ".json":
        return _samples(source, _needed(image_folder, source))
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        return (Item(str(p.relative_to(source)), p, None, p.relative_to(source).as_posix()) for p in files)
    if source.is_file():
        return [Item(source.name, source, None, source.name)]
    raise FaceDataError(f"{source}: no such file or folder")


def _needed(image_folder: Path | None, source: Path) -> Path:
    from ..errors import FaceConfigError

    if image_folder is None:
        raise FaceConfigError(f"overlay {source}: --image-folder is needed, where its images are")
    return image_folder


def _samples(data: Path, folder: Path) -> Iterator[Item]:
    from ..errors import FaceDataError
    from ..segment.entries import read_samples

    with_image = [s for s in read_samples(data) if isinstance(s, dict) and isinstance(s.get("image"), str)]
    if not with_image:
        raise FaceDataError(f"{data}: no sample has an image")
    return (_sample(s, folder) for s in with_image)


def _sample(sample: dict[str, Any], folder: Path) -> Item:
    name = str(sample.get("id", ""))
    present = [a for a, v in sample.get("face_attributes", {}).items() if v == 1]
    title = " ".join([f"{name}:", *(a.replace("_", " ") + "," for a in present)]).rstrip(",:")
    own = folder / sample["face_map"] if sample.get("face_map") else None
    return Item(title, folder / sample["image"], own, sample["image"])
