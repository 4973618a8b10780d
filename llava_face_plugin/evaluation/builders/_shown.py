"""What the rows of a manifest show: a picture or a clip, and what every question about it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...data.datasets._clips import VIDEOS
from ...data.files import Listing
from ...data.wording import words
from ...errors import FaceDataError
from ..questions import Question, rotate
from .base import Source

CLIP_FOLDERS: dict[str, tuple[str, ...]] = {
    "dfew": ("Clip/original",),
    "mafw": ("data/clips", "clips"),
    "cremad": ("VideoFlash",),
    "made-video": ("videos",),
}
"""Data set -> where its clips are when they do not lie beside the folders of their frames."""


@dataclass(frozen=True)
class Shown:
    """One row: its picture (``images``) or its clip (``video``), and who and which groups it belongs to."""

    row: int
    image_id: str
    cluster: str
    groups: dict[str, str]
    images: tuple[str, ...] = ()
    video: str = ""

    def yes_no(self, topic: str, question: str, yes: bool, value: str = "") -> Question:
        """A closed question; "" stands for the group that is asked about: a split by the answer is no split."""
        return Question(
            f"{self.image_id}:{topic}", self.image_id, self.images, "yes_no", question, ("yes" if yes else "no",),
            topic, value=value or str(int(yes)), cluster=self.cluster,
            groups={name: "" if name == topic else group for name, group in self.groups.items()}, video=self.video,
        )  # fmt: skip

    def choice(self, topic: str, question: str, values: Sequence[str], right: int, seed: int) -> Question:
        """One of ``values`` as ``words`` writes them, rotated. The group that is asked about is left out: a split by
        the right answer is what ``face_uar`` scores."""
        key = f"{self.image_id}:{topic}"
        options, permutation, letter = rotate([words(v) for v in values], right, seed=seed, key=key)
        return Question(
            key, self.image_id, self.images, "choice", question, (letter,), topic, options=options,
            permutation=permutation, value=values[right], cluster=self.cluster,
            groups={name: group for name, group in self.groups.items() if name != topic}, video=self.video,
        )  # fmt: skip

    def number(self, topic: str, question: str, value: float) -> Question:
        """A number, in the fewest digits."""
        return Question(
            f"{self.image_id}:{topic}", self.image_id, self.images, "number", question, (f"{value:g}",), topic,
            value=f"{value:g}", cluster=self.cluster, groups=self.groups, video=self.video,
        )  # fmt: skip


Rows = Callable[[Source], Iterator[Shown]]
MEDIA = {"media": "frame"}
"""The settings of a benchmark of ``clips``."""
_NO_CLIP = {"video": "no clip file", "frames": "no folder of frames"}
_NOTES = {
    "frame": "clips are shown by a middle frame",
    "video": "clips are shown whole, as video",
    "frames": "clips are shown whole, as folders of frames: for face_llava, other runners read files only",
}


def pictures(source: Source) -> Iterator[Shown]:
    """The chosen rows as pictures."""
    m = source.the_manifest()
    for row in source.rows.tolist():
        yield Shown(row, str(m.ids[row]), source.cluster(row), source.groups(row), images=(str(m.images[row]),))


def clips(source: Source) -> Iterator[Shown]:
    """The chosen rows of a video set: the middle frame, or the clip itself by ``--set media=video`` (its file) or
    ``media=frames`` (the folder of its frames).

    Rows without the one that is asked for are left out and counted. Raises ``FaceDataError`` for another medium, and
    where no row has it.
    """
    media = source.options["media"]
    if media not in _NOTES:
        raise FaceDataError(f"--set media={media}: expected frame, video or frames")
    m, listing, before = source.the_manifest(), Listing(source.root), source.skipped.total()
    for row in source.rows.tolist():
        image = str(m.images[row])
        clip = "" if media == "frame" else _whole(media, listing, image, CLIP_FOLDERS.get(m.dataset, ()))
        if media in _NO_CLIP and not clip:
            source.skipped[_NO_CLIP[media]] += 1
        elif media == "frame" and image.lower().endswith(VIDEOS):
            source.skipped["a clip without frames (--set media=video asks about the clip)"] += 1
        else:
            images = () if clip else (image,)
            yield Shown(row, str(m.ids[row]), source.cluster(row), source.groups(row), images, clip)
    if source.skipped.total() - before == len(source.rows):
        what = "folder of frames" if media == "frames" else media
        raise FaceDataError(f"not one {what} of {len(source.rows):,} clips is below {source.root}", "missing")
    source.notes.append(_NOTES[media])


def _whole(media: str, listing: Listing, image: str, folders: Sequence[str]) -> str:
    """The clip's file, or the folder of its frames; "" = none."""
    if media == "video":
        return _clip(listing, image, folders)
    return "" if image.lower().endswith(VIDEOS) else image.rpartition("/")[0]


def _clip(listing: Listing, image: str, folders: Sequence[str]) -> str:
    """The clip that ``image`` (its frame below a folder of its name, or the clip's own path) belongs to, "" = none."""
    stem = image.rpartition(".")[0] if image.lower().endswith(VIDEOS) else image.rpartition("/")[0]
    name = stem.rpartition("/")[2]
    places = [stem, *(f"{folder}/{name}" for folder in folders)]
    return next((place + ending for place in places for ending in VIDEOS if place + ending in listing), "")
