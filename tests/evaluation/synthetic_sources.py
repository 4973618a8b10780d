"""Small made-up data sets for the benchmarks of ``llava-face questions``: a manifest, or files of a benchmark's own."""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pair_samples
import suite_samples
import test_action_unit_builders as action_units
from PIL import Image

from llava_face_plugin.data import made_video
from llava_face_plugin.data.datasets import (
    DATASETS,
    affectnet,
    celebvhq,
    cremad,
    dfew,
    fairface,
    ferplus,
    ferv39k,
    maadface,
    mafw,
    rafdb,
    utkface,
)
from llava_face_plugin.data.datasets._rows import AGE_BINS
from llava_face_plugin.data.made_attributes import MADE_ATTRIBUTES
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.data.manifest_file import save_manifest
from llava_face_plugin.evaluation.builders import BENCHMARKS, Benchmark, BuildOptions, build
from llava_face_plugin.evaluation.questions import load_questions
from llava_face_plugin.labels import CELEBA_ATTRIBUTES, FACE_PARTS
from llava_face_plugin.maps.files import write_map
from llava_face_plugin.video.write import can_write_mp4, write_mp4

VOCABULARIES: dict[str, tuple[str, ...]] = {
    "celeba": CELEBA_ATTRIBUTES, "lfwa": CELEBA_ATTRIBUTES, "celebamask_hq": CELEBA_ATTRIBUTES,
    "maadface": maadface.ATTRIBUTES, "celebvhq": celebvhq.VOCABULARY, "made": MADE_ATTRIBUTES,
    "made-video": made_video.VOCABULARY,
}  # fmt: skip
CLASSES: dict[str, Mapping[str, tuple[str, ...]]] = {
    "fairface": fairface.CLASSES, "utkface": utkface.CLASSES,
    "rafdb": {"expression": rafdb.EXPRESSIONS} | rafdb.MANUAL,
    "affectnet": {"expression": affectnet.EXPRESSIONS}, "affectnet7": {"expression": affectnet.EXPRESSIONS[:7]},
    "ferplus": {"expression": ferplus.EXPRESSIONS}, "dfew": {"expression": dfew.EXPRESSIONS},
    "mafw": {"expression": mafw.EXPRESSIONS}, "ferv39k": {"expression": ferv39k.EXPRESSIONS},
    "cremad": {"expression": tuple(cremad.EMOTIONS.values())} | cremad.DEMOGRAPHICS | {"age_group": AGE_BINS},
}  # fmt: skip
PEOPLE = ("celeba", "lfwa", "maadface", "celebvhq", "cremad")
"""Whose persons are known."""
CLIPS = ("celebvhq", "dfew", "mafw", "ferv39k", "cremad", "made-video")
"""Shown by frames below a folder a clip."""


def manifest_of(dataset: str, n: int = 36, *, seed: int = 0) -> Manifest:
    """N rows, a third in each split; about a sixth of the labels are unknown."""
    rng = np.random.default_rng(seed)
    vocabulary, classes = VOCABULARIES.get(dataset, ()), dict(CLASSES.get(dataset, {}))
    labels = {c: rng.integers(0, len(v), n).astype(np.int16) for c, v in classes.items()}
    for codes in labels.values():
        codes[rng.random(n) < 1 / 6] = -1
    attributes = rng.choice([0, 0, 1, 1, 0, -1], (n, len(vocabulary))).astype(np.int8)
    names = [f"clips/{i:04d}/00002.png" if dataset in CLIPS else f"pictures/{i:04d}.png" for i in range(n)]
    age = np.where(rng.random(n) < 1 / 6, np.nan, rng.integers(1, 90, n)).astype(np.float32)
    groups = DATASETS[dataset].groups if dataset in DATASETS else ()
    return Manifest(
        dataset, np.array(names), np.arange(n, dtype=np.int8) % 3, vocabulary, attributes, classes, labels,
        age=age if dataset == "utkface" else None,
        identity=np.arange(n, dtype=np.int64) // 6 if dataset in PEOPLE else None,
        present=np.ones(n, dtype=bool), groups=tuple(g for g in groups if g in classes or g in vocabulary),
        maps=np.array([f"maps/{i:04d}.png" for i in range(n)]) if dataset == "celebamask_hq" else None,
        ids=np.array([f"{i:04d}" for i in range(n)]),
    )  # fmt: skip


def write(manifest: Manifest, root: Path) -> Path:
    """Its pictures (and maps of one part a stripe) below ``root``; returns the manifest's path."""
    for number, name in enumerate(manifest.images.tolist()):
        picture(root / name, number)
    for number, name in enumerate(manifest.maps.tolist() if manifest.maps is not None else ()):
        stripes = random.Random(number).sample(range(1, 19), 8)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        rows = np.repeat(np.array([0, 0, *stripes], dtype=np.uint8), 4)
        mask = np.repeat(rows[:, None], 40, axis=1)
        mask[0, 0], mask[0, -1] = FACE_PARTS.index("r_ear"), FACE_PARTS.index("l_ear")  # which side is which
        write_map(root / name, mask)
    save_manifest(manifest, root / "manifest.parquet")
    return root / "manifest.parquet"


def picture(path: Path, number: int = 0) -> None:
    """A small picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (number % 256, 90, 120)).save(path)


def agedb(root: Path) -> None:
    for number, name in enumerate(("MariaCallas_35_f", "MariaCallas_41_f", "JohnWayne_60_m", "AnnaO_Hara_7_f")):
        picture(root / "AgeDB" / f"{number}_{name}.jpg", number)


def morph(root: Path) -> None:
    head = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo"
    rows = [
        "009055,1,01/25/1952,03/02/2006,B,M,NULL,54,0,NULL,Album2/009055_1M54.JPG",
        "009055,2,01/25/1952,03/02/2007,B,M,NULL,55,1,NULL,Album2/009055_2M55.JPG",
        "009101,1,05/05/1980,05/04/2003,W,F,NULL,22,0,NULL,Album2/009101_1F22.JPG",
    ]
    root.mkdir(parents=True, exist_ok=True)
    (root / "morph_2008_nonCommercial.csv").write_text("\n".join([head, *rows]) + "\n")
    for row in rows:
        picture(root / row.rpartition(",")[2])


OWN_FILES: dict[str, Callable[[Path], object]] = {
    "face_agedb_age": agedb, "face_morph_age": morph,
    "face_disfa": action_units.disfa, "face_bp4d": action_units.bp4d,
    **pair_samples.SAMPLES, **{f"{task}_score": make for task, make in pair_samples.SAMPLES.items()},
    **{task: suite_samples.MAKERS[suite] for suite, tasks in suite_samples.TASKS.items() for task in tasks},
}  # fmt: skip
"""Task -> what writes its own files."""

SETTINGS = {"face_disfa": {"units": "12"}, "face_celebvhq": {"media": "video"}, "face_made_video": {"media": "frames"}}
"""Task -> what makes its questions cover all of its metrics."""


@functools.cache
def clip_bytes() -> bytes:
    """A video file of four small frames."""
    if not can_write_mp4():  # then none is decoded either
        return b"\0\0\0\x18ftypmp42"
    with tempfile.TemporaryDirectory(prefix="synthetic_sources_") as folder:
        path = Path(folder) / "clip.mp4"
        write_mp4(path, np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8), 2)
        return path.read_bytes()


def source_of(benchmark: Benchmark, root: Path) -> tuple[Path, Path | None]:
    """(root, manifest or None) of a small source. ``KeyError``: add one of this benchmark here."""
    if not benchmark.datasets:
        OWN_FILES[benchmark.task](root)
        return root, None
    manifest = manifest_of(benchmark.datasets[0])
    path = write(manifest, root)
    if SETTINGS.get(benchmark.task, {}).get("media") == "video":
        for frame in manifest.images.tolist():
            (root / frame).parent.with_suffix(".mp4").write_bytes(clip_bytes())
    return root, path


@functools.cache
def docs_of(task: str) -> dict[str, dict[str, Any]]:
    """Topic -> the first question about it, as lmms-eval gets it, of the benchmark's small source."""
    with tempfile.TemporaryDirectory(prefix="synthetic_sources_") as folder:
        root, manifest = source_of(BENCHMARKS[task], Path(folder))
        path, _ = build(BENCHMARKS[task], root, root, manifest, BuildOptions(settings=SETTINGS.get(task, {})))
        rows = load_questions(path)[1].to_pylist()
    return {row["topic"]: {**row, "image_root": "/images"} for row in reversed(rows)}
