"""Every benchmark made from a manifest asks what the manifest knows, and nothing else."""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_sources as sources

from llava_face_plugin.data.datasets import celebvhq
from llava_face_plugin.data.made_motion import TEMPORAL
from llava_face_plugin.data.manifest import SPLITS, Manifest
from llava_face_plugin.data.manifest_file import load_manifest, save_manifest
from llava_face_plugin.data.wording import bare_choice, bare_question, words
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.builders import BENCHMARKS, Benchmark, BuildOptions, build
from llava_face_plugin.evaluation.questions import LETTERS, Header, load_questions

pytest.importorskip("pyarrow", reason="manifests are parquet")

ALL = [BENCHMARKS[name] for name in BENCHMARKS]
ATTRIBUTES = [b for b in ALL if b.datasets and b.datasets[0] in sources.VOCABULARIES and "mask" not in b.task]
ATTRIBUTES = [b for b in ATTRIBUTES if b.task != "face_celeba_consistency"]
LABELS = [b for b in ALL if b.datasets and b.datasets[0] in sources.CLASSES and not b.task.endswith("_years")]
EVENTS = {"face_celebvhq": celebvhq.ACTION, "face_made_video": TEMPORAL}
COLUMN_OF = {"age": "age_group", "gender": "gender", "race": "race"}


def made(benchmark: Benchmark, root: Path, out: Path, **options: Any) -> tuple[Header, list[dict[str, Any]]]:
    path, _ = build(benchmark, root, out, root / "manifest.parquet", BuildOptions(**options))
    header, table = load_questions(path)
    return header, table.to_pylist()


def written(benchmark: Benchmark, root: Path, n: int = 36, **changes: Any) -> Manifest:
    manifest = replace(sources.manifest_of(benchmark.datasets[0], n), **changes)
    sources.write(manifest, root)
    return manifest


def rows_of(manifest: Manifest, split: str) -> list[int]:
    return np.flatnonzero(manifest.split == SPLITS.index(split)).tolist()


def check_place(question: dict[str, Any], manifest: Manifest, row: int) -> None:
    assert question["images"] == [manifest.images[row]] and question["video"] == ""
    person = manifest.identity
    assert question["cluster"] == (f"{row:04d}" if person is None else f"person {person[row]}")


def test_all_families_are_here() -> None:
    assert len(ATTRIBUTES) == 6 and len(LABELS) == 14


@pytest.mark.parametrize("benchmark", ATTRIBUTES, ids=lambda b: b.task)
def test_attributes(benchmark: Benchmark, tmp_path: Path) -> None:
    manifest = written(benchmark, tmp_path / "data")
    header, asked = made(benchmark, tmp_path / "data", tmp_path / "q")
    rows = rows_of(manifest, benchmark.split)
    assert header.split == benchmark.split and header.task == benchmark.task and not header.skipped
    # Of clips shown by a frame, no actions.
    names = [n for n in manifest.vocabulary if n not in EVENTS.get(benchmark.task, ())]
    known = manifest.attributes[rows][:, [manifest.vocabulary.index(n) for n in names]] >= 0
    assert len(rows) == 12 and len(asked) == int(known.sum()) and {q["topic"] for q in asked} <= set(names)
    left_out = [f"left out: {len(events)} actions, which one frame does not show (--set media=video)"
                for task, events in EVENTS.items() if task == benchmark.task]  # fmt: skip
    assert [n for n in header.notes if "actions" in n] == left_out
    for question in asked:
        row, attribute = int(question["image_id"]), manifest.vocabulary.index(question["topic"])
        assert row in rows and question["kind"] == "yes_no"
        assert question["answer"] == [{0: "no", 1: "yes"}[int(manifest.attributes[row, attribute])]]
        assert question["question"] == bare_question(question["topic"])
        check_place(question, manifest, row)
        for group in manifest.groups:
            value = int(manifest.attributes[row, manifest.vocabulary.index(group)])
            if group == question["topic"]:
                value = -1  # no split by the right answer
            assert question["groups"][group] == {1: group, 0: f"not {group}", -1: ""}[value]


@pytest.mark.parametrize("benchmark", LABELS, ids=lambda b: b.task)
def test_labels(benchmark: Benchmark, tmp_path: Path) -> None:
    manifest = written(benchmark, tmp_path / "data")
    header, asked = made(benchmark, tmp_path / "data", tmp_path / "q")
    column = COLUMN_OF.get(benchmark.task.rpartition("_")[2], "expression")
    rows, codes = rows_of(manifest, benchmark.split), manifest.labels[column]
    known = [row for row in rows if codes[row] >= 0]
    assert [int(q["image_id"]) for q in asked] == known
    assert header.skipped == ({f"{column} unknown": len(rows) - len(known)} if len(known) < len(rows) else {})
    for question in asked:
        row = int(question["image_id"])
        value = manifest.classes[column][codes[row]]
        shown = question["options"]
        assert question["value"] == value and shown[LETTERS.index(question["answer"][0])] == words(value)
        assert [words(manifest.classes[column][p]) for p in question["permutation"]] == shown
        assert sorted(shown) == sorted(map(words, manifest.classes[column]))
        assert (question["kind"], question["topic"]) == ("choice", column)
        assert question["question"] == bare_choice(column)
        check_place(question, manifest, row)
        groups = {g: manifest.labels[g][row] for g in manifest.groups if g != column}
        expected = {g: manifest.classes[g][code] if code >= 0 else "" for g, code in groups.items()}
        assert (question.get("groups") or {}) == expected


def test_ages_in_years(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["face_utkface_age_years"]
    manifest = written(benchmark, tmp_path / "data")
    header, asked = made(benchmark, tmp_path / "data", tmp_path / "q")
    assert manifest.age is not None
    known = [row for row in rows_of(manifest, "test") if not np.isnan(manifest.age[row])]
    assert [(q["image_id"], q["answer"]) for q in asked] == [(f"{r:04d}", [str(int(manifest.age[r]))]) for r in known]
    assert header.skipped == {"age unknown": 12 - len(known)} and {q["topic"] for q in asked} == {"age"}
    assert set(asked[0]["groups"]) == {"gender", "race", "age_group"}


@pytest.mark.parametrize("task", ["face_fairface_race", "face_fairface_gender", "face_mafw"])
def test_the_right_letter_is_even_and_repeatable(task: str, tmp_path: Path) -> None:
    benchmark, n = BENCHMARKS[task], 3600
    manifest = replace(sources.manifest_of(benchmark.datasets[0], n), present=None)
    tmp_path.joinpath("data").mkdir()
    save_manifest(manifest, tmp_path / "data" / "manifest.parquet")
    header, asked = made(benchmark, tmp_path / "data", tmp_path / "q", verify=False)
    letters, k = Counter(q["answer"][0] for q in asked), len(asked[0]["options"])
    expected = len(asked) / k
    assert len(letters) == k and all(abs(count - expected) < 4 * expected**0.5 for count in letters.values())
    # Every class comes to stand at every place.
    assert len({(q["value"], q["answer"][0]) for q in asked}) == k * k
    again, _ = made(benchmark, tmp_path / "data", tmp_path / "q2", verify=False)
    other, _ = made(benchmark, tmp_path / "data", tmp_path / "q3", verify=False, seed=1)
    assert again.digest == header.digest != other.digest


def test_a_limit_draws_images_by_the_seed(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["face_celeba"]
    written(benchmark, tmp_path / "data")
    header, asked = made(benchmark, tmp_path / "data", tmp_path / "q", limit=5)
    again, _ = made(benchmark, tmp_path / "data", tmp_path / "q", limit=5)
    other, _ = made(benchmark, tmp_path / "data", tmp_path / "q", limit=5, seed=1)
    assert len({q["image_id"] for q in asked}) == 5 and again.digest == header.digest != other.digest
    assert any("not the whole benchmark" in note for note in header.notes)


def test_other_splits_are_noted(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["face_fairface_gender"]
    manifest = written(benchmark, tmp_path / "data")
    for split, rows in (("train", rows_of(manifest, "train")), ("all", range(36))):
        header, asked = made(benchmark, tmp_path / "data", tmp_path / "q", split=split)
        assert {int(q["image_id"]) for q in asked} == {r for r in rows if manifest.labels["gender"][r] >= 0}
        assert any("not comparable" in note for note in header.notes)


def test_missing_and_broken_images_are_counted(tmp_path: Path) -> None:
    benchmark, root = BENCHMARKS["face_celeba"], tmp_path / "data"
    manifest = sources.manifest_of("celeba")
    first, second, third, *_ = rows_of(manifest, "test")
    assert manifest.present is not None
    manifest.present[first] = False
    sources.write(manifest, root)
    (root / manifest.images[second]).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (root / manifest.images[third]).unlink()
    header, asked = made(benchmark, root, tmp_path / "q")
    assert header.skipped == {"no image file": 1, "image damaged": 1, "image missing": 1}
    assert len({q["image_id"] for q in asked}) == 12 - 3
    assert not {f"{row:04d}" for row in (first, second, third)} & {q["image_id"] for q in asked}


@pytest.mark.parametrize("task", ["face_dfew", "face_celebvhq", "face_cremad", "face_mafw"])
def test_clips_instead_of_frames(task: str, tmp_path: Path) -> None:
    benchmark, root = BENCHMARKS[task], tmp_path / "data"
    manifest = written(benchmark, root)
    with pytest.raises(FaceDataError, match="not one video of 12 clips"):
        made(benchmark, root, tmp_path / "q", settings={"media": "video"})
    elsewhere = {"face_dfew": "Clip/original", "face_cremad": "VideoFlash", "face_mafw": "data/clips"}
    rows = rows_of(manifest, "test")
    for row in rows[:6]:
        clip = root / elsewhere.get(task, "clips") / f"{row:04d}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(sources.clip_bytes())
    header, asked = made(benchmark, root, tmp_path / "q", settings={"media": "video"})
    folder = elsewhere.get(task, "clips")
    assert {(int(q["image_id"]), q["video"]) for q in asked} <= {(r, f"{folder}/{r:04d}.mp4") for r in rows[:6]}
    assert asked and all(q["images"] == [] for q in asked) and header.skipped["no clip file"] == 6
    if task == "face_celebvhq":
        assert {q["topic"] for q in asked} == set(manifest.vocabulary)
    with pytest.raises(FaceDataError, match="expected frame, video or frames"):
        made(benchmark, root, tmp_path / "q", settings={"media": "sound"})
    (root / asked[0]["video"]).write_bytes(b"no clip")
    header, left = made(benchmark, root, tmp_path / "q", settings={"media": "video"})
    assert header.skipped["clip format"] == 1 and f"left out: {asked[0]['video']} (format)" in header.notes
    assert [q for q in asked if q["video"] != asked[0]["video"]] == left
    # The folders of frames are there for every row.
    _, shown = made(benchmark, root, tmp_path / "q", settings={"media": "frames"})
    assert all(q["video"] == f"clips/{q['image_id']}" and q["images"] == [] for q in shown)
    assert {q["image_id"] for q in shown} > {q["image_id"] for q in asked}
    (root / shown[0]["video"] / "00002.png").write_bytes(b"no picture")
    header, left = made(benchmark, root, tmp_path / "q", settings={"media": "frames"})
    assert left == [q for q in shown if q["video"] != shown[0]["video"]]
    assert any(reason.startswith("clip ") and count == 1 for reason, count in header.skipped.items())


def test_a_clip_beside_its_frames_and_one_without_frames(tmp_path: Path) -> None:
    benchmark, root = BENCHMARKS["face_ferv39k"], tmp_path / "data"
    manifest = sources.manifest_of("ferv39k")
    sources.write(manifest, root)
    rows = [r for r in rows_of(manifest, "test") if manifest.labels["expression"][r] >= 0]
    (root / f"clips/{rows[0]:04d}.avi").write_bytes(sources.clip_bytes())
    _, (beside,) = made(benchmark, root, tmp_path / "q", settings={"media": "video"})
    assert beside["video"] == f"clips/{rows[0]:04d}.avi"
    # Without looking for images the reader gives the path of the clip.
    images = manifest.images.astype("<U40")
    images[rows[0]] = f"clips/{rows[0]:04d}.mp4"
    save_manifest(replace(manifest, images=images, present=None), root / "manifest.parquet")
    _, (alone,) = made(benchmark, root, tmp_path / "q", settings={"media": "video"})
    assert alone["video"] == f"clips/{rows[0]:04d}.avi"  # the file that is there, not the ending that is usual
    header, asked = made(benchmark, root, tmp_path / "q")
    assert header.skipped["a clip without frames (--set media=video asks about the clip)"] == 1
    assert len(asked) == len(rows) - 1


def test_settings_that_a_task_does_not_have(tmp_path: Path) -> None:
    for task, message in (("face_celeba", "has no settings"), ("face_dfew", "face_dfew has media")):
        written(BENCHMARKS[task], tmp_path / task)
        with pytest.raises(FaceDataError, match=message):
            made(BENCHMARKS[task], tmp_path / task, tmp_path / "q", settings={"medai": "video"})


def test_real_fairface(real_faces: Path, tmp_path: Path) -> None:
    """Counts against the official CSV, read by itself."""
    from llava_face_plugin.data.prepare import prepare

    root = real_faces / "fairface"
    if not (root / "val").is_dir():
        pytest.skip("no FairFace images in FACE_TEST_DATA")
    prepare("fairface", root, tmp_path / "p")
    with zipfile.ZipFile(root / "fairface_label_val.zip") as archive:
        text = archive.read(archive.namelist()[0]).decode("utf-8-sig")
    truth = {r["file"]: r for r in csv.DictReader(io.StringIO(text)) if (root / r["file"]).is_file()}
    assert len(load_manifest(tmp_path / "p" / "manifest.parquet")) > len(truth) > 0
    for name in ("age", "gender", "race"):
        path, _ = build(
            BENCHMARKS[f"face_fairface_{name}"], root, tmp_path / "q", tmp_path / "p" / "manifest.parquet",
            BuildOptions(verify=False),
        )  # fmt: skip
        asked = load_questions(path)[1].to_pylist()
        assert {q["images"][0]: q["value"] for q in asked} == {file: r[name] for file, r in truth.items()}
