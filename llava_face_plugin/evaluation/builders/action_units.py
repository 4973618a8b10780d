"""Facial action units, one yes/no question each: DISFA and BP4D.

Labels were not seen as real files. Their forms, the units, "present from intensity 2 on" (DISFA) and the three folds of
people are those of ME-GraphAU (CVI-SZU, ``tool/DISFA_image_label_process.py``, ``tool/BP4D_image_label_process.py``),
which has them from JAA-Net; OpenFace reads the same columns. Its lists of frames, made from the real files, have no gap
(BP4D: 146,847 frames in 328 videos; DISFA: 130,814 of 27 people). So a label file is refused as a whole where a line is
malformed or is not the next frame's: what it labels could not be trusted.

Frames are images that the user takes out of the videos, named by their number: ``img/SN001/1.png`` (any number of
leading zeros). The default asks about one frame a second: all of them are a million questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...data.files import read_text, source
from ...errors import FaceDataError
from ...maps.files import IMAGE_SUFFIXES
from ..questions import Question
from ._settings import whole_number
from .base import Benchmark, Source

NAMES = {
    1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser", 6: "cheek raiser",
    7: "lid tightener", 9: "nose wrinkler", 10: "upper lip raiser", 12: "lip corner puller", 14: "dimpler",
    15: "lip corner depressor", 17: "chin raiser", 20: "lip stretcher", 23: "lip tightener", 24: "lip pressor",
    25: "lips part", 26: "jaw drop",
}  # fmt: skip
"""Action unit -> its name in FACS (Ekman, Friesen and Hager 2002)."""

DISFA_UNITS = {"8": (1, 2, 4, 6, 9, 12, 25, 26), "12": (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)}
BP4D_UNITS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
PRESENT = 2
"""DISFA's least intensity (0 to 5) of a unit that counts as there."""

DISFA_FOLDS = (
    "SN003 SN029 SN023 SN025 SN008 SN005 SN007 SN017 SN004",
    "SN013 SN018 SN011 SN028 SN012 SN006 SN031 SN021 SN024",
    "SN002 SN010 SN001 SN026 SN027 SN032 SN030 SN009 SN016",
)
BP4D_FOLDS = (
    "F007 F015 F006 F019 M006 M009 F012 M003 F004 F021 F017 M015 F014",
    "M011 F003 M010 M002 F005 F022 M018 M017 F013 M016 F020 F011 M013 M005",
    "F001 M007 F018 F008 F002 M004 F010 F009 M012 M001 F016 M014 F023 M008",
)
"""The people that are tested in folds 1, 2 and 3."""

_TAIL = 10
"""So many frames may follow the last labelled one: videos and labels of DISFA differ by a frame or two."""


@dataclass(frozen=True)
class _Clip:
    """The labelled frames of one video."""

    person: str
    folder: str
    """Of its images, below that of all."""
    labels: Mapping[int, Mapping[int, int]]
    """Unit -> frame -> label as the file has it."""


def disfa_questions(src: Source) -> Iterator[Question]:
    """DISFA: ``ActionUnit_Labels/SN001/SN001_au12.txt``, lines ``FRAME,INTENSITY``, frames from 1.

    Raises ``FaceDataError`` naming file and line, and where the images are not numbered as the frames.
    """
    chosen = src.options
    if chosen["units"] not in DISFA_UNITS:
        raise FaceDataError(f"--set units={chosen['units']}: expected {' or '.join(DISFA_UNITS)}")
    units, folds = DISFA_UNITS[chosen["units"]], _folds(DISFA_FOLDS)
    labels = next((p for p in (src.root / "ActionUnit_Labels", src.root) if any(p.glob("SN*/SN*_au*.txt"))), None)
    if labels is None:
        raise FaceDataError(f"{src.root}: no ActionUnit_Labels/SN001/SN001_au1.txt and so on here", "missing")
    clips = []
    for folder in sorted(p for p in labels.glob("SN*") if p.is_dir() and _asked(p.name, folds, chosen["fold"])):
        files = {unit: folder / f"{folder.name}_au{unit}.txt" for unit in units}
        clips.append(_Clip(folder.name, folder.name, {unit: _intensities(path) for unit, path in files.items()}))
        src.sources += [source(path, len(clips[-1].labels[unit])) for unit, path in files.items()]
    every = whole_number("every", chosen["every"], 1, 10_000)
    place = _images(src, (chosen["images"],) if chosen["images"] else ("img", "frames"), clips)
    first = _first(src, chosen["first"], place, clips)
    for clip in clips:
        images = {number + 1 - first: name for number, name in place[clip.folder].items()}
        last = max(frame for of_unit in clip.labels.values() for frame in of_unit)
        if images and not 0.9 * last <= max(images) <= last + _TAIL:
            raise FaceDataError(
                f"{clip.folder}: the last image is frame {max(images)}, the last label that of frame {last}; images "
                "must be numbered by the frames of the video, all of them or some", "format",
            )  # fmt: skip
        yield from _asked_clip(src, clip, images, folds, every, start=1, present=range(PRESENT, 6))


def bp4d_questions(src: Source) -> Iterator[Question]:
    """BP4D: ``AUCoding/AU_OCC/F001_T1.csv``, a header of unit numbers (0: the frame), labels 0, 1, or 9 for unknown.

    Raises ``FaceDataError`` naming file and line.
    """
    chosen = src.options
    every, folds = whole_number("every", chosen["every"], 1, 10_000), _folds(BP4D_FOLDS)
    places = ("AUCoding/AU_OCC", "AU_OCC", "AUCoding")
    labels = next((src.root / p for p in places if any((src.root / p).glob("[FM]*_T*.csv"))), None)
    if labels is None:
        raise FaceDataError(f"{src.root}: no AUCoding/AU_OCC/F001_T1.csv and so on here", "missing")
    clips = []
    for path in sorted(labels.glob("[FM]*_T*.csv")):
        person, _, task = path.stem.partition("_")
        if _asked(person, folds, chosen["fold"]):
            clips.append(_Clip(person, f"{person}/{task}", _occurrences(path)))
            src.sources.append(source(path, len(clips[-1].labels[BP4D_UNITS[0]])))
    folders = (chosen["images"],) if chosen["images"] else ("img", "frames", "2D+3D", ".")
    place = _images(src, folders, clips)
    for clip in clips:
        start = min(clip.labels[BP4D_UNITS[0]])
        yield from _asked_clip(src, clip, place[clip.folder], folds, every, start=start, present=(1,), unknown=9)


def _asked_clip(
    src: Source,
    clip: _Clip,
    images: Mapping[int, str],
    folds: Mapping[str, int],
    every: int,
    *,
    start: int,
    present: Sequence[int],
    unknown: int | None = None,
) -> Iterator[Question]:
    if every > 1 and not any(note.startswith("one frame in") for note in src.notes):
        src.notes.append(f"one frame in {every}: published figures are of all frames (--set every=1)")
    for frame in sorted(set().union(*clip.labels.values())):
        if (frame - start) % every:
            continue
        if frame not in images:
            src.skipped["labelled frame without an image file"] += 1
            continue
        key = f"{clip.folder}/{frame}"
        for unit, of_unit in clip.labels.items():
            label = of_unit.get(frame, unknown)
            if label == unknown:
                src.skipped["unknown label"] += 1
                continue
            yield Question(
                f"{key}:AU{unit}", key, (images[frame],), "yes_no", unit_question(unit),
                ("yes" if label in present else "no",), f"AU{unit}", value=str(label), cluster=clip.person,
                fold=folds.get(clip.person, -1),
            )  # fmt: skip


def unit_question(unit: int) -> str:
    """Our wording: the number and the name in FACS, for models may know either."""
    return f"Is facial action unit AU{unit} ({NAMES[unit]}) active in this face?"


def _folds(people: Sequence[str]) -> dict[str, int]:
    return {person: fold for fold, names in enumerate(people, 1) for person in names.split()}


def _asked(person: str, folds: Mapping[str, int], fold: str) -> bool:
    wanted = whole_number("fold", fold, 0, 3)
    return not wanted or folds.get(person) == wanted


def _first(src: Source, given: str, place: Mapping[str, Mapping[int, str]], clips: Sequence[_Clip]) -> int:
    """The number of the image of the first frame: as given, else 0 where some person has an image 0."""
    if given:
        return whole_number("first", given, 0, 1)
    found = 0 if any(0 in place[clip.folder] for clip in clips) else 1
    src.notes.append(f"the image of the first frame is taken to be number {found} (--set first=0 or 1 says so)")
    return found


def _images(src: Source, folders: Sequence[str], clips: Sequence[_Clip]) -> dict[str, dict[int, str]]:
    """Clip's folder -> number -> image below the root; raises ``FaceDataError`` where no clip has one."""
    for folder in folders:
        found = {clip.folder: _numbered(src.root, Path(folder) / clip.folder) for clip in clips}
        if any(found.values()):
            return found
    looked = " or ".join(f"{folder}/{clips[0].folder if clips else '...'}/1.png" for folder in folders)
    raise FaceDataError(f"{src.root}: there is no image of any labelled video (looked for {looked})", "missing")


def _numbered(root: Path, folder: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for path in sorted((root / folder).iterdir()) if (root / folder).is_dir() else ():
        if path.suffix.lower() in IMAGE_SUFFIXES and re.fullmatch(r"\d{1,9}", path.stem, re.ASCII):
            name = (folder / path.name).as_posix()
            if (number := int(path.stem)) in found:
                raise FaceDataError(f"{root}: {found[number]} and {name} are both number {number}")
            found[number] = name
    return found


def _intensities(path: Path) -> dict[int, int]:
    """Frame -> 0 to 5."""
    found = {frame: values[0] for frame, values in _rows(path, _lines(path), 1, "012345", start=1)}
    if min(found) != 1:
        raise FaceDataError(f"{path}, line 1: frame {min(found)}; expected 1", "format")
    return found


def _occurrences(path: Path) -> dict[int, dict[int, int]]:
    """Unit -> frame -> 0, 1 or 9."""
    lines = _lines(path)
    names = [name.strip() for name in lines[0].split(",")]
    wanted = [str(unit) for unit in BP4D_UNITS]
    if names[0] != "0" or any(names.count(name) != 1 for name in wanted):
        raise FaceDataError(f"{path}, line 1: expected 0 and, once each, the units {', '.join(wanted)}", "format")
    rows = list(_rows(path, lines[1:], len(names) - 1, "019", start=2))
    return {unit: {f: values[names.index(str(unit)) - 1] for f, values in rows} for unit in BP4D_UNITS}


def _rows(path: Path, lines: Sequence[str], width: int, known: str, start: int) -> Iterator[tuple[int, list[int]]]:
    """(frame, labels) of every line; each is the frame after the one before it."""
    due: int | None = None
    for number, line in enumerate(lines, start):
        cells = [cell.strip() for cell in line.split(",")]
        good = len(cells) == 1 + width and all(len(cell) == 1 and cell in known for cell in cells[1:])
        if not good or not re.fullmatch(r"\d{1,6}", cells[0], re.ASCII):
            shown = f"a frame and {width} labels out of {', '.join(known)}"
            raise FaceDataError(f"{path}, line {number}: {line[:60]!r}; expected {shown}", "format")
        if (frame := int(cells[0])) != (frame if due is None else due):
            raise FaceDataError(f"{path}, line {number}: frame {frame}; expected {due}", "format")
        due = frame + 1
        yield frame, [int(cell) for cell in cells[1:]]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FaceDataError(f"{path}: no such label file", "missing")
    lines = read_text(path).rstrip().splitlines()
    if len(lines) < 2:
        raise FaceDataError(f"{path}: the file has no rows", "empty")
    return lines


_AGREEMENT = "by signed agreement with the authors; research only"
BENCHMARKS = (
    Benchmark(
        "face_disfa", "DISFA: 8 (or 12) action units", disfa_questions, licence=_AGREEMENT,
        layout="ActionUnit_Labels/SN001/SN001_au12.txt\nimg/SN001/1.png: frames, by number (or --set images=FOLDER)",
        settings={"every": "20", "units": "8", "fold": "0", "images": "", "first": ""},
    ),
    Benchmark(
        "face_bp4d", "BP4D: 12 action units", bp4d_questions, licence=_AGREEMENT,
        layout="AUCoding/AU_OCC/F001_T1.csv\nimg/F001/T1/2440.jpg: frames, by number (or --set images=FOLDER)",
        settings={"every": "25", "fold": "0", "images": ""},
    ),
)  # fmt: skip
