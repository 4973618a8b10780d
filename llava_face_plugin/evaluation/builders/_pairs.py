"""Pair lists of face verification protocols, as published: their lines -> pairs of image names.

A list is refused as a whole where a line is malformed, for folds are counted off its lines: one line lost shifts all
that follow. Where a file states its label twice (in the label and in the names of the people), a pair of which the two
do not agree is left out and counted, so that no label is taken on trust that the file itself contradicts.

Formats: LFW's ``pairs.txt`` was checked on the real file. The others were not seen as real files; each function says
which public code reads them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...data.files import read_text
from ...data.losses import Losses
from ...errors import FaceDataError

FOLDS = 10
"""Of all these protocols (LFW's View 2 and those made after it)."""

_PERSON = re.compile(r"\w[^\s/\\\x00-\x1f]*")
_FILE = re.compile(r"\w[^\s/\\\x00-\x1f]*\.(?:jpe?g|png)", re.IGNORECASE)
_COUNTED = re.compile(r"(\d+)\.", re.ASCII)
_NUMBER = re.compile(r"0*[1-9]\d{0,4}", re.ASCII)
_CFP_IMAGE = re.compile(r"(?:\.\./)?(Data/Images/(\d+)/(frontal|profile)/\d+\.jpg)", re.ASCII)


@dataclass(frozen=True)
class Pair:
    """Two pictures and whether they show one person."""

    images: tuple[str, str]
    """Names below the folder of images."""
    same: bool
    fold: int
    """1 to 10."""
    number: int
    """Place in the list, from 1."""
    person: str = ""
    """Who the first picture shows; "" = not known."""
    group: str = ""


def named_pairs(path: Path, losses: Losses, *, header: bool) -> list[Pair]:
    """LFW's form: ``NAME i j`` is ``NAME/NAME_000i.jpg`` with ``_000j``; ``NAME i OTHER j`` is a pair of two people.

    Folds are blocks: as many pairs of one person, then as many of two. ``header``: the first line is ``FOLDS PAIRS``
    (LFW: 10 and 300). Without it (RFW) the blocks are taken as equal; a public reader
    (Z. Seljee) takes 10 times 300 and 300 from RFW's, and FaceX-Zoo (JDAI-CV) and bob.bio.face (Idiap) its columns.
    Raises ``FaceDataError`` naming the line that is not of this form, and where lines are missing.
    """
    lines = _lines(path)
    folds, each = _blocks(path, lines[0]) if header else (FOLDS, len(lines) // (2 * FOLDS))
    rows = lines[1:] if header else lines
    if not each or len(rows) != folds * 2 * each:
        raise FaceDataError(f"{path}: {len(rows)} pairs; expected {folds} folds of equal halves", "format")
    pairs = []
    for at, row in enumerate(rows):
        fold, place = divmod(at, 2 * each)
        where = f"{path}, line {at + 1 + header}"
        first, second = _named(row.split(), place < each, where)
        images = tuple(f"{name}/{name}_{number:04d}.jpg" for name, number in (first, second))
        if first == second or (first[0] == second[0]) != (place < each):
            losses.add("label contradicts the names", f"{where}: {row!r} in a block of {_people(place < each)}")
        else:
            pairs.append(Pair((images[0], images[1]), place < each, fold + 1, at + 1, first[0]))
    return pairs


def _blocks(path: Path, line: str) -> tuple[int, int]:
    cells = line.split()
    if len(cells) != 2 or not all(map(_NUMBER.fullmatch, cells)):
        raise FaceDataError(f"{path}, line 1: {line[:40]!r}; expected the numbers of folds and pairs: 10 300", "format")
    return int(cells[0]), int(cells[1])


def _named(cells: Sequence[str], same: bool, where: str) -> tuple[tuple[str, int], tuple[str, int]]:
    if same and len(cells) == 3:
        cells = (cells[0], cells[1], cells[0], cells[2])
    elif same or len(cells) != 4:
        wanted = "NAME i j" if same else "NAME i OTHER j"
        raise FaceDataError(f"{where}: {' '.join(cells)[:80]!r}; expected {wanted} at this place of the fold", "format")
    for name, number in (cells[:2], cells[2:]):
        if not _PERSON.fullmatch(name) or not _NUMBER.fullmatch(number):
            raise FaceDataError(f"{where}: {name[:40]!r} {number[:10]!r} is no name and number of an image", "format")
    return (cells[0], int(cells[1])), (cells[2], int(cells[3]))


def line_pairs(path: Path, losses: Losses) -> list[Pair]:
    """CALFW's and CPLFW's form: two lines a pair, ``NAME_0001.jpg TOKEN``, the same token in both.

    Token 0 is a pair of two people. Others are pairs of one: CALFW gives their fold, 1 to 10 (so an audit of the
    official file by public code, which also found that the names agree with the tokens), CPLFW gives 1 (FaceX-Zoo).
    The pairs of two people have no fold in the file: the n-th tenth of them goes with the n-th tenth of the others, as
    FaceX-Zoo does. Raises ``FaceDataError`` naming the line that is not of this form.
    """
    lines = _lines(path)
    if len(lines) % 2:
        raise FaceDataError(f"{path}: {len(lines)} lines; expected two a pair", "format")
    found = [_line_pair(path, at, lines[at : at + 2]) for at in range(0, len(lines), 2)]
    named = [_person_of(a) == _person_of(b) for a, b, _ in found]
    folds = _tenths(path, named)
    tells_fold = any(token > 1 for *_, token in found)
    pairs = []
    for at, ((first, second, token), same, fold) in enumerate(zip(found, named, folds, strict=True)):
        if first == second or token != (0 if not same else fold if tells_fold else 1):
            message = f"{path}, line {2 * at + 1}: {first} and {second} with {token}"
            losses.add("label contradicts the names", f"{message} (by place and names: fold {fold})")
        else:
            pairs.append(Pair((first, second), same, fold, at + 1, _person_of(first)))
    return pairs


def _line_pair(path: Path, at: int, lines: Sequence[str]) -> tuple[str, str, int]:
    cells = [line.split() for line in lines]
    for number, row in enumerate(cells, at + 1):
        if len(row) != 2 or not _FILE.fullmatch(row[0]) or not re.fullmatch(r"\d|10", row[1], re.ASCII):
            shown = " ".join(row)[:80]
            raise FaceDataError(f"{path}, line {number}: {shown!r}; expected an image and a token 0 to 10", "format")
    if cells[0][1] != cells[1][1]:
        raise FaceDataError(
            f"{path}, lines {at + 1} and {at + 2}: tokens {cells[0][1]} and {cells[1][1]} in one pair", "format"
        )
    return cells[0][0], cells[1][0], int(cells[0][1])


def _person_of(name: str) -> str:
    return re.sub(r"_\d+\.\w+$", "", name)


def _tenths(path: Path, same: Sequence[bool]) -> list[int]:
    """The fold of each pair: by its rank among the pairs of its kind."""
    totals, ranks = {kind: sum(s is kind for s in same) for kind in (True, False)}, {True: 0, False: 0}
    if totals[True] != totals[False] or not totals[True] or totals[True] % FOLDS:
        raise FaceDataError(
            f"{path}: {totals[True]} pairs of one person and {totals[False]} of two by their names; expected as many "
            f"of either, in {FOLDS} folds", "format",
        )  # fmt: skip
    folds = []
    for kind in same:
        folds.append(1 + ranks[kind] * FOLDS // totals[kind])
        ranks[kind] += 1
    return folds


def flat_pairs(path: Path) -> list[Pair]:
    """The form of unpacked InsightFace sets: ``00001.jpg 00002.jpg 1`` a pair, label 1, or else -1 or 0.

    So write and read it public scripts that unpack ``cfp_fp.bin`` (Face_Pytorch and others). Folds are tenths of the
    list. The form states no label twice, so what can be checked is: images that are numbers are two a line, in order;
    and there are as many pairs of one person as of two. Raises ``FaceDataError`` where not, or for a malformed line.
    """
    rows = []
    start = 0
    for number, line in enumerate(_lines(path), 1):
        cells = line.split()
        if len(cells) != 3 or not all(map(_FILE.fullmatch, cells[:2])) or cells[2] not in ("1", "0", "-1"):
            raise FaceDataError(f"{path}, line {number}: {line[:80]!r}; expected IMAGE IMAGE and 1 or -1", "format")
        numbers = [int(m[1]) if (m := _COUNTED.match(cell)) else None for cell in cells[:2]]
        if number == 1:
            start = 0 if numbers[0] == 0 else 1
        if cells[0] == cells[1] or (numbers != [None, None] and numbers != [start, start + 1]):
            raise FaceDataError(f"{path}, line {number}: {cells[0]} and {cells[1]} are no pair of this line", "format")
        start += 2
        rows.append(((cells[0], cells[1]), cells[2] == "1"))
    return block_pairs(path, [images for images, _ in rows], [same for _, same in rows])


def block_pairs(path: Path, images: Sequence[tuple[str, str]], same: Sequence[bool]) -> list[Pair]:
    """Pairs in ten blocks of equal length, half of all of one person; otherwise ``FaceDataError``."""
    if not same or len(same) % FOLDS or 2 * sum(same) != len(same):
        raise FaceDataError(
            f"{path}: {len(same)} pairs, {sum(same)} of one person; expected {FOLDS} folds, and half of all of one "
            "person", "format",
        )  # fmt: skip
    return [
        Pair(pair, label, 1 + at * FOLDS // len(same), at + 1, _agedb_person(pair[0]))
        for at, (pair, label) in enumerate(zip(images, same, strict=True))
    ]


def _agedb_person(name: str) -> str:
    """What precedes the numbers in a name of AgeDB's protocol images (not seen); "" for images that are numbers."""
    return "" if _COUNTED.match(name) else re.split(r"_\d", name, maxsplit=1)[0]


def cfp_pairs(protocol: Path, losses: Losses) -> list[Pair]:
    """CFP's folder ``Protocol``, frontal-profile: ``Split/FP/01/same.txt`` to ``10/diff.txt``, lines ``12,5``.

    The numbers are those of ``Pair_list_F.txt`` and ``Pair_list_P.txt``: ``12 ../Data/Images/002/frontal/02.jpg``
    (the set's Readme and several public loaders). Raises ``FaceDataError`` naming file and line.
    """
    frontal, profile = (_numbered(protocol / f"Pair_list_{x[0].upper()}.txt", x) for x in ("frontal", "profile"))
    pairs, listed = [], 0
    for fold in range(1, FOLDS + 1):
        for same in (True, False):
            path = protocol / "Split" / "FP" / f"{fold:02d}" / ("same.txt" if same else "diff.txt")
            for number, line in enumerate(_lines(path), 1):
                where, listed = f"{path}, line {number}", listed + 1
                (image, person), (other, second) = _pair_of_numbers(line, frontal, profile, where)
                if (person == second) != same:
                    losses.add("label contradicts the names", f"{where}: {image} and {other} among {_people(same)}")
                else:
                    pairs.append(Pair((image, other), same, fold, listed, person))
    return pairs


def _numbered(path: Path, view: str) -> dict[int, tuple[str, str]]:
    """Number -> (image below the set's folder, person)."""
    found: dict[int, tuple[str, str]] = {}
    for number, line in enumerate(_lines(path), 1):
        cells = line.split()
        match = _CFP_IMAGE.fullmatch(cells[1]) if len(cells) == 2 else None
        if match is None or match[3] != view or cells[0] != str(number):
            raise FaceDataError(
                f"{path}, line {number}: {line[:80]!r}; expected {number} ../Data/Images/PERSON/{view}/NUMBER.jpg",
                "format",
            )
        found[number] = match[1], match[2]
    return found


def _pair_of_numbers(
    line: str, frontal: dict[int, tuple[str, str]], profile: dict[int, tuple[str, str]], where: str
) -> tuple[tuple[str, str], tuple[str, str]]:
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != 2 or not all(map(_NUMBER.fullmatch, cells)):
        raise FaceDataError(f"{where}: {line[:40]!r}; expected two numbers: 12,5", "format")
    first, second = frontal.get(int(cells[0])), profile.get(int(cells[1]))
    if first is None or second is None:
        raise FaceDataError(f"{where}: {line[:40]!r}: no such frontal or profile image", "format")
    return first, second


def _people(same: bool) -> str:
    return "pairs of one person" if same else "pairs of two people"


def _lines(path: Path) -> list[str]:
    """Lines without spaces around them; empty ones at the end are dropped, others are malformed."""
    if not path.is_file():
        raise FaceDataError(f"{path}: no such file", "missing")
    lines = [line.strip() for line in read_text(path, path.with_suffix(".txt").name).rstrip().splitlines()]
    if not lines:
        raise FaceDataError(f"{path}: the file has no rows", "empty")
    return lines
