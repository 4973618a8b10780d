"""Verification sets in the published forms, small: as many folds, fewer pairs. Images are 4 x 4 pixels.

LFW's form is that of the real ``pairs.txt``; the others are written from what public readers take (see ``_pairs.py``).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

FOLDS, EACH = 10, 2
RACES = ("African", "Asian", "Caucasian", "Indian")


def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (seed % 251, seed // 251 % 251, 60)).save(out, "JPEG")
    return out.getvalue()


@dataclass
class Sample:
    """A set on disk and the truth about it."""

    root: Path
    files: list[str] = field(default_factory=list)
    """Below the root: those with the pairs."""
    truth: list[tuple[str, str, bool, int]] = field(default_factory=list)
    """(image, image, one person?, fold from 1)."""
    people: dict[str, str] = field(default_factory=dict)
    """Image -> person, for sets that name them."""

    def write(self, name: str, data: str | bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    def images(self) -> None:
        for i, name in enumerate(dict.fromkeys(n for a, b, *_ in self.truth for n in (a, b))):
            if not (self.root / name).exists():
                self.write(name, jpeg(i))

    def pair(self, first: tuple[str, str], second: tuple[str, str], fold: int) -> bool:
        """Two (image, person): notes the truth and returns it."""
        self.people.update([first, second])
        same = first[1] == second[1]
        self.truth.append((first[0], second[0], same, fold))
        return same


def _places(kinds_first: bool) -> Iterator[tuple[int, bool, int]]:
    """(fold, same, which): fold by fold, or all pairs of one person first."""
    cells = [(fold, same, i) for fold in range(1, FOLDS + 1) for same in (True, False) for i in range(EACH)]
    return iter(sorted(cells, key=lambda cell: not cell[1]) if kinds_first else cells)


def _named(sample: Sample, folder: str, prefix: str, header: str) -> str:
    """LFW's form: blocks of ``NAME i j`` and ``NAME i OTHER j``."""
    lines = [header] if header else []
    for fold, same, i in _places(kinds_first=False):
        person = f"{prefix}{fold}_{chr(97 + i)}"
        other = person if same else f"{prefix}{fold}_{chr(110 + i)}"
        first, second = f"{folder}{person}/{person}_0001.jpg", f"{folder}{other}/{other}_0012.jpg"
        sample.pair((first, person), (second, other), fold)
        lines.append(f"{person}\t1\t12" if same else f"{person}\t1\t{other}\t12")
    return "\n".join(lines) + "\n"


def lfw(root: Path) -> Sample:
    sample = Sample(root, ["pairs.txt"])
    sample.write("pairs.txt", _named(sample, "lfw/", "Ann_Bee", f"{FOLDS}\t{EACH}"))
    sample.images()
    return sample


def rfw(root: Path) -> Sample:
    sample = Sample(root, [f"txts/{race}/{race}_pairs.txt" for race in RACES])
    for race, file in zip(RACES, sample.files, strict=True):
        sample.write(file, _named(sample, f"data/{race}/", f"m.0{race[:2].lower()}", ""))
    sample.images()
    return sample


def _lines(root: Path, file: str, digits: int, folds_told: bool) -> Sample:
    """CALFW's form: pairs of one person first, two lines each; in CALFW the token is their fold."""
    sample = Sample(root, [file])
    lines = []
    for fold, same, i in _places(kinds_first=True):
        person, other = f"Cy_Dee{fold}{chr(97 + i)}", f"Ed_Eff{fold}{chr(97 + i)}"
        names = [f"{person}_{1:0{digits}}.jpg", f"{person if same else other}_{4:0{digits}}.jpg"]
        first, second = (f"aligned images/{name}" for name in names)
        sample.pair((first, person), (second, person if same else other), fold)
        token = 0 if not same else fold if folds_told else 1
        lines += [f"{name} {token}" for name in names]
    sample.write(file, "\n".join(lines) + "\n")
    sample.images()
    return sample


def calfw(root: Path) -> Sample:
    return _lines(root, "pairs_CALFW.txt", 4, folds_told=True)


def cplfw(root: Path) -> Sample:
    return _lines(root, "pairs_CPLFW.txt", 1, folds_told=False)


def cfp(root: Path) -> Sample:
    """Ten people a fold, two frontal and two profile pictures each."""
    sample = Sample(root, ["Protocol/Pair_list_F.txt", "Protocol/Pair_list_P.txt"])
    lists: dict[str, list[tuple[str, str]]] = {"frontal": [], "profile": []}
    for view, images in lists.items():
        images += [(f"Data/Images/{p:03d}/{view}/{i:02d}.jpg", f"{p:03d}") for p in range(1, 41) for i in (1, 2)]
        numbered = [f"{number} ../{image}" for number, (image, _) in enumerate(images, 1)]
        sample.write(f"Protocol/Pair_list_{view[0].upper()}.txt", "\n".join(numbered) + "\n")
    for fold, same, i in _places(kinds_first=False):
        file = f"Protocol/Split/FP/{fold:02d}/{'same' if same else 'diff'}.txt"
        person = 4 * (fold - 1) + 2 * i
        first, second = 2 * person + 1, 2 * (person if same else person + 1) + 2
        sample.pair(lists["frontal"][first - 1], lists["profile"][second - 1], fold)
        before = (sample.root / file).read_text() if i else ""
        sample.write(file, f"{before}{first},{second}\n")
        if file not in sample.files:
            sample.files.append(file)
    sample.images()
    return sample


def _alternating(folder: str, sample: Sample) -> list[bool]:
    for at in range(FOLDS * 2 * EACH):
        images = f"{folder}{2 * at + 1:05d}.jpg", f"{folder}{2 * at + 2:05d}.jpg"
        sample.truth.append((*images, at * 7 % 2 == 0, 1 + at // (2 * EACH)))
    return [same for *_, same, _ in sample.truth]


def flat(root: Path) -> Sample:
    sample = Sample(root, ["agedb_30_pair.txt"])
    labels = _alternating("agedb30_align_112/", sample)
    rows = [f"{a[18:]} {b[18:]} {1 if s else -1}" for (a, b, *_), s in zip(sample.truth, labels, strict=True)]
    sample.write("agedb_30_pair.txt", "\n".join(rows) + "\n")
    sample.images()
    return sample


def packed(root: Path, protocol: int = 2, arrays: bool = False) -> Sample:
    """``pickle.dump((bins, issame_list))``; Python 2 wrote protocol 2. ``arrays``: as of ``cv2.imencode``."""
    sample = Sample(root, ["agedb_30.bin"])
    labels = _alternating("agedb_30_images/", sample)
    bins: list[object] = [jpeg(i) for i in range(2 * len(labels))]
    if arrays:
        bins = [np.frombuffer(data, dtype=np.uint8)[:, None] for data in bins]  # type: ignore[call-overload]
    sample.write("agedb_30.bin", pickle.dumps((bins, labels), protocol=protocol))
    return sample


SAMPLES = {
    "face_lfw": lfw, "face_calfw": calfw, "face_cplfw": cplfw, "face_cfp_fp": cfp, "face_rfw": rfw,
    "face_agedb30": flat,
}  # fmt: skip
