"""Made clips: what only the order of their frames tells, and what is written."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llava_face_plugin.data.made import render
from llava_face_plugin.data.made_attributes import MADE_ATTRIBUTES
from llava_face_plugin.data.made_motion import KINDS, LEAST_FRAMES, TEMPORAL
from llava_face_plugin.data.made_portrait import Motion
from llava_face_plugin.data.made_video import VOCABULARY, make_clips, manifest_of, plan_clips, render_clip, rows_of
from llava_face_plugin.data.prepared import Prepared
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import FACE_PARTS
from llava_face_plugin.maps.files import read_map
from llava_face_plugin.parsing.precomputed import PrecomputedParser
from llava_face_plugin.video import Sampling, read_frames
from llava_face_plugin.video.write import can_write_mp4

SIZE = (64, 72)
PLAIN = dict.fromkeys(MADE_ATTRIBUTES, 0) | {"No_Beard": 1, "Young": 1, "Brown_Hair": 1}


def multiset(frames: np.ndarray) -> Counter[str]:
    return Counter(hashlib.sha256(frame.tobytes()).hexdigest() for frame in frames)


@pytest.mark.parametrize("name", KINDS)
def test_the_two_events_have_the_same_frames(name: str, n: int = 10) -> None:
    """The pixels and the maps of all frames, as a bag; so a frame tells nothing of the event, and the order must."""
    clip = replace(plan_clips(1, 0, n)[0], kind=KINDS[name])
    start = KINDS[name].starts(n) // 2
    drawn = [
        render_clip(replace(clip, which=which, course=KINDS[name].course(n, which, start)), SIZE) for which in (0, 1)
    ]
    (first, first_maps), (second, second_maps) = drawn
    assert multiset(first) == multiset(second) and multiset(first_maps) == multiset(second_maps)
    assert not np.array_equal(first, second), "in another order"
    assert len(first) == n and len(multiset(first)) > 1


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("n", [LEAST_FRAMES, 10, 12, 16, 23])
def test_nor_does_the_frame_at_a_known_place(name: str, n: int) -> None:
    """Over all starts every state is equally often at each place in both events; a smile has one course only."""
    kind = KINDS[name]
    courses = [[kind.course(n, which, start) for start in range(kind.starts(n))] for which in (0, 1)]
    assert all(len(course) == n for both in courses for course in both)
    assert len({*courses[0]} & {*courses[1]}) == 0, "no order of frames is of both events"
    for place in range(n):
        first, second = (Counter(course[place] for course in both) for both in courses)
        assert first == second or name == "smile"


def test_the_events_are_what_they_are_called() -> None:
    def path(name: str, which: int, start: int, *what: str) -> np.ndarray:
        return np.array([[getattr(m, w) for w in what] for m in KINDS[name].course(16, which, start)])

    for which, (fast, slow) in ((0, (1, 0)), (1, (0, 1))):  # nods: the pitch goes to and fro, the yaw slowly across
        ways = np.abs(np.diff(path("head", which, 0, "turn", "nod"), axis=0)).sum(axis=0)
        assert ways[fast] > 3 * ways[slow]
    assert (np.diff(path("smile", 0, 0, "smile")[:, 0]) > 0).all() and path("smile", 1, 0, "smile")[0] == 1
    for start in range(15):
        for which, runs in ((0, 1), (1, 2)):
            closed = path("blink", which, start, "blink")[:, 0]
            begins = (np.diff(closed, prepend=0) > 0).sum()
            assert begins == runs and closed.sum() == 2
    opening = np.diff(path("mouth", 0, 0, "mouth")[:, 0])
    assert opening.max() > 2 * -opening.min(), "opens in larger steps than it closes"


def test_events_can_be_seen() -> None:
    """Each state changes the picture, and the map, where it should."""
    still, still_map = (np.asarray(x) for x in render(PLAIN, 3, SIZE))
    same, _ = render(PLAIN, 3, SIZE, Motion())
    assert np.array_equal(still, np.asarray(same))
    ids = {name: i for i, name in enumerate(FACE_PARTS)}

    def rows_of(labels: np.ndarray, part: str) -> np.ndarray:
        return np.argwhere(labels == ids[part])

    _, shut = render(PLAIN, 3, SIZE, Motion(blink=1.0))
    eyes = [sum(int((m == ids[e]).sum()) for e in ("l_eye", "r_eye")) for m in (still_map, shut)]
    assert eyes[1] < 0.6 * eyes[0]
    _, ajar = render(PLAIN, 3, SIZE, Motion(mouth=1.0))
    assert not len(rows_of(still_map, "mouth")) and len(rows_of(ajar, "mouth"))
    _, turned = render(PLAIN, 3, SIZE, Motion(turn=0.34))
    assert rows_of(turned, "nose")[:, 1].mean() > rows_of(still_map, "nose")[:, 1].mean() + 2
    _, nodding = render(PLAIN, 3, SIZE, Motion(nod=0.26))
    assert rows_of(nodding, "nose")[:, 0].mean() > rows_of(still_map, "nose")[:, 0].mean() + 2
    smiles = [np.asarray(render(PLAIN, 3, SIZE, Motion(smile=s))[0]).astype(int) for s in (0.0, 0.5, 1.0)]
    assert np.array_equal(smiles[0], still)
    assert np.array_equal(smiles[2], np.asarray(render(PLAIN | {"Smiling": 1}, 3, SIZE)[0]))
    assert all(np.abs(a - b).max() > 30 for a, b in pairwise(smiles))


def test_events_are_balanced_and_independent_of_the_person() -> None:
    clips = plan_clips(160, seed=2, frames=9)
    assert set(Counter((c.kind.name, c.which) for c in clips).values()) == {20}
    for name in ("Male", "Young"):
        at = MADE_ATTRIBUTES.index(name)
        shares = [np.mean([c.attributes[at] for c in clips if c.which == which]) for which in (0, 1)]
        assert abs(shares[0] - shares[1]) < 0.25
    for clip in clips:
        known = clip.known()
        assert [known[v] for v in clip.kind.values] == [1 - clip.which, clip.which]
        assert not set(clip.kind.varies) & set(known) and len([n for n in known if n in TEMPORAL]) == 2
        assert not any(known[name] for name in clip.kind.hides)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    out = tmp_path_factory.mktemp("clips")
    return make_clips(out, 4, 4, seed=5, size=SIZE, frames=9, mp4=can_write_mp4())


def rows(made: Prepared, split: str) -> list[dict[str, Any]]:
    return json.loads(made.files[split].read_text())


def test_the_manifest_says_what_was_drawn(made: Prepared) -> None:
    manifest = manifest_of(made)
    clips = plan_clips(8, 5, 9)
    assert manifest.images.tolist() == [f"shareVideoGPTV/{clip.name}/00005.png" for clip in clips], "the middle of nine"
    assert manifest.split.tolist() == [0] * 4 + [1] * 4 and manifest.dataset == "made-video"
    assert manifest.maps is not None and manifest.ids is not None
    for name, image, labels in zip(manifest.ids, manifest.images, manifest.maps, strict=True):
        assert (made.out / image).is_file() and (made.out / labels).is_file() and Path(image).parent.name == name
    for clip, row in zip(clips, manifest.attributes, strict=True):
        known = {name: value for name, value in zip(manifest.vocabulary, row.tolist(), strict=True) if value >= 0}
        assert known == clip.known()


def test_what_is_written(made: Prepared) -> None:
    train, val = rows(made, "train"), rows(made, "val")
    assert made.rows == {"train": 8, "train clips": 4, "val": 8, "val clips": 4} and len(train) == 8
    assert not {r["video"] for r in train} & {r["video"] for r in val}
    assert len({r["id"] for r in train + val}) == 16
    for row in train + val:
        assert set(row["face_attributes"]) <= set(VOCABULARY) and "image" not in row
        assert row["conversations"][0]["value"].startswith("<image>\n")
        assert len(list((made.image_folder / row["video"]).iterdir())) == 9
    event = train[0]
    options = event["conversations"][0]["value"].rpartition(": ")[2].rstrip(".").split(", ")
    assert sorted(options) == ["nods", "shakes the head"] and event["conversations"][1]["value"] == "nods"
    asked = [next(rows_of(clip, 2, 0))["conversations"][0]["value"] for clip in plan_clips(40, 0)]
    assert len(set(asked)) == 2 * len(KINDS), "the options stand in either order"


def test_frames_are_exact_and_have_their_maps(made: Prepared) -> None:
    clips = plan_clips(8, 5, 9)
    parser = PrecomputedParser(made.out)
    for clip in clips[:4]:
        pixels, maps = render_clip(clip, SIZE)
        read = read_frames(made.out / "shareVideoGPTV" / clip.name, Sampling("uniform", 16), rate=8.0)
        assert np.array_equal(read.pixels, pixels)
        found = [p.labels for p in parser.parse([Image.fromarray(frame) for frame in read.pixels])]
        assert all(f is not None for f in found) and np.array_equal(np.stack(found), maps)  # type: ignore[arg-type]
        assert np.array_equal(read_map(made.out / "maps" / clip.name / "00003.png"), maps[2])


@pytest.mark.skipif(not can_write_mp4(), reason="neither PyAV nor OpenCV is installed")
def test_the_mp4s_show_the_same_but_are_lossy(made: Prepared) -> None:
    named = rows(made, "train_mp4")
    assert [{**r, "video": ""} for r in named] == [{**r, "video": ""} for r in rows(made, "train")]
    exact = read_frames(made.out / "shareVideoGPTV/000002")
    read = read_frames(made.out / named[2]["video"])
    assert read.total == 9 and read.times == pytest.approx(np.arange(9) / 8)
    assert np.abs(read.pixels.astype(int) - exact.pixels.astype(int)).mean() < 8
    assert PrecomputedParser(made.out).parse([Image.fromarray(read.pixels[0])])[0].labels is None


def test_same_seed_same_bytes(made: Prepared, tmp_path: Path) -> None:
    again = make_clips(tmp_path, 4, 4, seed=5, size=SIZE, frames=9)
    for name in ("train.json", "val.json", "shareVideoGPTV/000003/00004.png", "maps/000003/00004.png"):
        assert (again.out / name).read_bytes() == (made.out / name).read_bytes()
    other = make_clips(tmp_path / "other", 1, 0, seed=6, size=SIZE, frames=9)
    assert (other.out / "train.json").read_bytes() != (made.out / "train.json").read_bytes()
    for changed, message in (
        ({"frames": 8}, "at least 9 frames"), ({"n_train": 0}, "n_train must be at least 1"),
        ({"mp4": True, "size": (65, 72)}, "even width"), ({"rate": -3.0}, "rate must be"),
        ({"rate": 0.0}, "rate must be"), ({"rate": math.nan}, "rate must be"),
    ):  # fmt: skip
        with pytest.raises(FaceDataError, match=message):
            make_clips(tmp_path / "bad", **{"n_train": 1, "n_val": 0, "size": SIZE} | changed)


def test_a_second_run_leaves_nothing_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def there(out: Path) -> set[str]:
        return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}

    out = tmp_path / "out"
    make_clips(out, 2, 1, size=SIZE, frames=16, mp4=can_write_mp4())
    own = ["shareVideoGPTV/mine/1.png", "maps/000009/00001.png", "videos/000009.mp4", "mine.json"]
    for name in own:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).touch()
    for name in ("manifest.parquet", "made-video.knowledge.safetensors", "videos/000003.mp4", "train_mp4.json"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).touch()
    make_clips(out, 1, 1, seed=3, size=SIZE, frames=9)
    make_clips(tmp_path / "fresh", 1, 1, seed=3, size=SIZE, frames=9)
    assert there(out) == there(tmp_path / "fresh") | set(own)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llava_face_plugin.data.made_video.render_clip", stopped)
    with pytest.raises(KeyboardInterrupt):
        make_clips(out, 1, 1, size=SIZE, frames=9)
    assert there(out) == set(own), "no old JSON names new frames"
