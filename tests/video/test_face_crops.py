"""Clips cut to a face: followed by a stand-in detector, and by YuNet over a real photograph; and their JSON."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceError
from llava_face_plugin.maps.files import read_map, write_map
from llava_face_plugin.parsing.detectors.base import Detection
from llava_face_plugin.parsing.precomputed import PrecomputedParser, index
from llava_face_plugin.video import Sampling, read_frames
from llava_face_plugin.video.crops import track_face
from llava_face_plugin.video.rewrite import Options, rewrite_clips, rewrite_json
from llava_face_plugin.video.track import crop_frames
from llava_face_plugin.video.write import can_write_mp4, write_frames, write_mp4

SIZE = (60, 80)
"""(height, width) of the drawn frames."""
SIDE = 12
"""Of the bright square that stands for a face."""


class Bright:
    """Finds the bright square."""

    digest = "bright"

    def detect(self, images: Sequence[Image.Image]) -> list[Detection]:
        found = []
        for image in images:
            lit = np.argwhere(np.asarray(image)[..., 0] > 200)
            box = [[*lit.min(0)[::-1], *(lit.max(0)[::-1] + 1)]] if len(lit) else np.zeros((0, 4))
            found.append(Detection(np.array(box, dtype=np.float32), None, np.ones(len(box), dtype=np.float32)))
        return found


def moving(count: int, hidden: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3) with a square that goes right by 3 pixels a frame, and maps (T, H, W) where it is part 1."""
    pixels = np.full((count, *SIZE, 3), 40, dtype=np.uint8)
    maps = np.zeros((count, *SIZE), dtype=np.uint8)
    for i in range(count):
        spot = (i, slice(20, 20 + SIDE), slice(5 + 3 * i, 5 + 3 * i + SIDE))
        # No two faces are equal, or a map would be found for the wrong one.
        pixels[spot], maps[spot] = (50 if i in hidden else 250 - i), 1
    return pixels, maps


def test_the_crop_follows_the_face(tmp_path: Path) -> None:
    pixels, _ = moving(16, hidden=(4, 5))
    write_frames(tmp_path / "clip", pixels)
    track = track_face(tmp_path / "clip", Sampling("uniform", 4), Bright(), pad=0.5)
    assert track.frames.places.tolist() == [0, 5, 10, 15] and track.seen == 14 / 16
    assert np.unique(track.squares[:, 2:] - track.squares[:, :2]).tolist() == [2 * SIDE]
    # At two frames a second 0.25 s is half a frame: at the ends the average is off by a pixel at most.
    middle = track.squares[:, 0] + SIDE
    assert np.abs(middle - (5 + 3 * track.frames.places + SIDE / 2)).max() <= 1
    assert np.abs(track.squares[:, 1] + SIDE - (20 + SIDE / 2)).max() <= 1
    cut = crop_frames(track.frames.pixels, track.squares, 2 * SIDE)
    for picture in cut[[0, 2, 3]]:
        lit = np.argwhere(picture[..., 0] > 200).mean(axis=0)
        assert np.abs(lit - (SIDE - 0.5)).max() <= 1


def test_frames_are_those_of_read_frames(tmp_path: Path) -> None:
    write_frames(tmp_path / "clip", moving(16)[0])
    for text in ("uniform:5", "fps:1:16", "fps:1:4", "face:3", "uniform:40"):
        sampling = Sampling.parse(text)
        expected = read_frames(tmp_path / "clip", sampling, Bright())
        track = track_face(tmp_path / "clip", sampling, Bright())
        assert np.array_equal(track.frames.places, expected.places) and len(track.squares) == len(expected), text
        assert np.array_equal(track.frames.pixels, expected.pixels)


def test_clips_without_a_face_are_named(tmp_path: Path) -> None:
    write_frames(tmp_path / "none", moving(8, hidden=range(8))[0])
    write_frames(tmp_path / "few", moving(8, hidden=range(1, 8))[0])
    with pytest.raises(FaceDataError, match="none: no face") as error:
        track_face(tmp_path / "none", Sampling(), Bright(), least_seen=0)
    assert error.value.reason == "no face"
    with pytest.raises(FaceDataError, match="few: a face in 12% of 8 frames, less than 50%"):
        track_face(tmp_path / "few", Sampling(), Bright())
    assert track_face(tmp_path / "few", Sampling(), Bright(), least_seen=0.1).seen == 1 / 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frame folders (the last without a face), a broken file, and a JSON about them."""
    root = tmp_path / "data"
    for name, hidden in (("a/1", ()), ("2", ()), ("blank", range(9))):
        write_frames(root / name, moving(9, hidden)[0])
    (root / "broken.mp4").write_bytes(b"no clip")
    names = ["a/1", "2", "a/1", "blank", "broken.mp4"]
    rows: list[dict[str, Any]] = [{"id": str(i), "video": name, "conversations": []} for i, name in enumerate(names)]
    (root / "train.json").write_text(json.dumps([*rows, {"id": "still", "image": "x.png", "conversations": []}]))
    return root


def run(folder: Path, out: Path, **options: Any) -> tuple[dict[str, str], Any]:
    rows = json.loads((folder / "train.json").read_text())
    clips = {row["video"]: folder / row["video"] for row in rows if "video" in row}
    given = {"sampling": Sampling("uniform", 4), "side": 32, **options}
    maps = given.pop("maps", None)
    written, outcome = rewrite_clips(clips, out, Options(**given), Bright(), maps)
    rewrite_json(rows, written, out / "train.json", outcome)
    return written, outcome


def test_a_json_is_rewritten_and_gone_on_with(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written, outcome = run(folder, out)
    assert written == {"a/1": "shareVideoGPTV/a/1", "2": "shareVideoGPTV/2"}
    assert (outcome.made, outcome.there, outcome.rows) == (2, 0, 4)
    assert outcome.skipped == {"no face": 1, "format": 1} and len(outcome.failures) == 2
    rows = json.loads((out / "train.json").read_text())
    assert [row["id"] for row in rows] == ["0", "1", "2", "still"]
    assert [row.get("video") for row in rows] == [written["a/1"], written["2"], written["a/1"], None]
    made = read_frames(out / written["2"], Sampling("uniform", 16))
    track = track_face(folder / "2", Sampling("uniform", 4), Bright())
    assert np.array_equal(made.pixels, crop_frames(track.frames.pixels, track.squares, 32))

    # An interrupted clip is made again; a finished one is not.
    (out / written["2"]).rename(out / "shareVideoGPTV/.2.part")
    (out / "shareVideoGPTV/.2.part/00004.png").unlink()
    before = (out / written["a/1"] / "00001.png").stat().st_mtime_ns
    again, outcome = run(folder, out)
    assert again == written and (outcome.made, outcome.there) == (1, 1)
    assert (out / written["a/1"] / "00001.png").stat().st_mtime_ns == before
    assert np.array_equal(read_frames(out / written["2"], Sampling("uniform", 16)).pixels, made.pixels)
    assert not list(out.rglob("*.part"))
    with pytest.raises(FaceConfigError, match=r"other settings \(side 32 there, 64 now\)"):
        run(folder, out, side=64)


def test_a_clip_of_the_same_name_is_not_taken_for_another(folder: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    run(folder, out)
    shutil.copytree(folder, other)
    with pytest.raises(FaceConfigError, match=r"made of .*data/a/1, not of .*other/a/1 \(and 1 more\)"):
        run(other, out)
    os.utime(folder / "2/00003.png", ns=(0, 2**62))
    with pytest.raises(FaceConfigError, match=r"data/2 has changed since its frames were made \(changed_ns"):
        run(folder, out)
    shutil.rmtree(out / "shareVideoGPTV/2")
    assert run(folder, out)[1].made == 1, "removed as the error says, it is made again"
    shutil.rmtree(folder / "a")
    assert run(folder, out)[1].there == 2, "what was made of a clip that is gone is still good"
    (out / "sources/2.json").unlink()
    with pytest.raises(FaceConfigError, match="not noted"):
        run(folder, out)


def test_whole_frames_and_maps(folder: Path, tmp_path: Path) -> None:
    pixels, maps = moving(9)
    pairs = []
    for i in range(9):
        pairs.append((folder / "2" / f"{i + 1:05d}.png", tmp_path / "maps" / f"{i}.png"))
        if i != 8:
            write_map(pairs[-1][1], maps[i])
    stored = PrecomputedParser(index(pairs[:8], tmp_path / "maps").path)
    _, outcome = run(folder, tmp_path / "whole", crop=False, maps=stored)
    whole = read_frames(tmp_path / "whole/shareVideoGPTV/2", Sampling("uniform", 16))
    assert np.array_equal(whole.pixels, pixels[[0, 2, 5, 8]]) and outcome.skipped == {"format": 1}
    assert (tmp_path / "whole/shareVideoGPTV/blank").is_dir(), "without crops nobody looks for a face"
    written, _ = run(folder, tmp_path / "cut", maps=stored)
    parser = PrecomputedParser(tmp_path / "cut/index.json")
    cut = read_frames(tmp_path / "cut" / written["2"], Sampling("uniform", 16)).pixels
    found = [one.labels for one in parser.parse([Image.fromarray(picture) for picture in cut])]
    assert found[3] is None, "the last frame has no map"
    assert (outcome.frames, outcome.mapped) == (12, 6), "three clips of four frames; two show the same"
    for name in ("shareVideoGPTV/2", "maps/2/00002.png"):
        path = tmp_path / "cut" / name
        shutil.rmtree(path) if path.is_dir() else path.rename(path.with_name("00004.png"))
    assert run(folder, tmp_path / "cut", maps=stored)[1].mapped == 6, "an old map is not left beside a frame without"
    moved = PrecomputedParser(shutil.copytree(tmp_path / "maps", tmp_path / "moved"))
    with pytest.raises(FaceConfigError, match=r"other settings \(maps .*/maps.* there, .*/moved"):
        run(folder, tmp_path / "cut", maps=moved)
    for picture, labels in zip(cut[:3], found[:3], strict=True):
        assert labels is not None and labels.shape == (32, 32)
        inside = picture[..., 0] > 225  # but for the blurred edge
        assert inside.any() and (labels[inside] == 1).all() and (labels[picture[..., 0] < 45] == 0).all()
    assert np.array_equal(read_map(tmp_path / "cut/maps/2/00001.png"), found[0])


def test_settings_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FaceConfigError, match="need a detector: give --detector; or --no-crop"):
        rewrite_clips({"2": folder / "2"}, tmp_path, Options())
    with pytest.raises(FaceConfigError, match="mp4 is lossy"):
        stored = PrecomputedParser.__new__(PrecomputedParser)
        rewrite_clips({"2": folder / "2"}, tmp_path, Options(mp4=True), Bright(), stored)
    for wrong in (
        {"side": 8}, {"side": 33, "mp4": True}, {"pad": -1.0}, {"pad": math.nan}, {"pad": math.inf},
        {"least_seen": 2.0}, {"rate": 0.0}, {"rate": math.nan},
    ):  # fmt: skip
        with pytest.raises(FaceConfigError, match="frames: "):
            Options(**wrong)
    twice = {"2": folder / "2", "2.mp4": folder / "2"}
    with pytest.raises(FaceDataError, match=r"2 and 2\.mp4 would both be written"):
        rewrite_clips(twice, tmp_path, Options(), Bright())
    with pytest.raises(FaceDataError, match="not a path below"):
        rewrite_clips({"../x": folder / "2"}, tmp_path, Options(), Bright())


@pytest.mark.skipif(not can_write_mp4(), reason="neither PyAV nor OpenCV is installed")
def test_the_command(folder: Path, tmp_path: Path) -> None:
    def call(*arguments: str | Path) -> Any:
        return CliRunner().invoke(app, ["frames", *map(str, arguments)])

    write_mp4(folder / "clips/x.mp4", moving(9)[0], 3)
    plain = call(folder, "--out", tmp_path / "a", "--no-crop", "--sampling", "fps:1:8")
    assert plain.exit_code == 0 and "2 clips: 1 made, 0 already there" in plain.output, plain.output
    assert "left out: 1 x format" in plain.output and "broken.mp4" in plain.output
    made = sorted(path.name for path in (tmp_path / "a/shareVideoGPTV/clips/x").iterdir())
    assert made == ["00001.png", "00002.png", "00003.png"], "nine frames at three a second"
    short = call(folder / "train.json", "--video-folder", folder, "--out", tmp_path / "b", "--no-crop", "--mp4")
    assert short.exit_code == 0 and "4 clips: 3 made" in short.output, short.output
    assert len(read_frames(tmp_path / "b/videos/a/1.mp4")) == 9
    assert json.loads((tmp_path / "b/train.json").read_text())[0]["video"] == "videos/a/1.mp4"
    json_too = (folder / "train.json", "--video-folder", folder, "--out", tmp_path / "s", "--no-crop")
    halves = [call(*json_too, "--shard", f"{i}/2").output for i in (1, 2)]
    assert all("2 clips: " in half for half in halves) and not (tmp_path / "s/train.json").exists()
    whole = call(*json_too)
    assert "4 clips: 0 made, 3 already there" in whole.output and (tmp_path / "s/train.json").is_file(), whole.output
    write_frames(tmp_path / "still", moving(1)[0])
    write_map(tmp_path / "0.png", moving(1)[1][0])
    stored = index([(tmp_path / "still/00001.png", tmp_path / "0.png")], tmp_path).path
    unmapped = call(folder, "--out", tmp_path / "m", "--no-crop", "--maps", stored)
    assert "9 frames: 0 with a map, 9 without" in unmapped.output, unmapped.output
    assert "warning: no frame has a map" in unmapped.output and "exact pixels" in unmapped.output
    before = (folder / "train.json").read_bytes()
    for arguments, message in (
        ((*json_too, "--shard", "3/2"), "i from 1 to n"),
        ((folder / "train.json", "--out", tmp_path / "c"), "--video-folder"),
        ((folder / "a", "--out", tmp_path / "c"), "no video file"),
        ((folder, "--out", tmp_path / "c", "--detector", "yunet"), "detector_path"),
        ((folder, "--out", tmp_path / "c", "--sampling", "all"), "unknown kind|expected uniform"),
        ((folder, "--out", folder, "--no-crop"), "the folder of the clips"),
        ((*json_too[:3], "--out", folder / "a/..", "--no-crop"), "the folder of the clips"),
        ((folder / "train.json", "--video-folder", folder / "a", "--out", folder, "--no-crop"), "overwritten"),
        ((folder, "--out", tmp_path / "c", "--detector-path", "x.onnx", "--no-crop"), "--detector"),
        ((folder, "--out", tmp_path / "c", "--detector", "assume_cropped", "--device", "foo"), "--device foo"),
        ((folder, "--out", tmp_path / "c", "--no-crop", "--pad", "inf"), "pad is from 0"),
        ((folder, "--out", tmp_path / "c", "--no-crop", "--rate", "0"), "rate must be above 0"),
    ):  # fmt: skip
        result = call(*arguments)
        assert result.exit_code == 1 and result.exception is not None
        assert isinstance(result.exception, FaceError), result.exception
        assert any(part in str(result.exception) for part in message.split("|")), result.exception
    assert (folder / "train.json").read_bytes() == before


def test_a_real_face_stays_in_the_middle(tmp_path: Path, real_faces: Path) -> None:
    """A window that wanders over a photograph: the crop must undo it."""
    from llava_face_plugin.video.detector import detector_of

    photo = np.asarray(Image.open(real_faces / "samples/girl.jpg").convert("RGB"))
    detector = detector_of("yunet", str(real_faces / "detectors/yunet_n_640_640.onnx"))
    x0, y0, x1, y1 = detector.detect([Image.fromarray(photo)])[0].boxes[0].astype(int)
    face = max(x1 - x0, y1 - y0)
    high, wide = min(photo.shape[0], 2 * face), min(photo.shape[1], 2 * face)
    steps = np.linspace(0, 1, 12)
    left = np.clip(x1 - wide + steps * (x0 - x1 + wide), 0, photo.shape[1] - wide).astype(int)
    top = np.clip((y0 + y1 - high) // 2, 0, photo.shape[0] - high)
    write_frames(tmp_path / "pan", np.stack([photo[top : top + high, x : x + wide] for x in left]))
    track = track_face(tmp_path / "pan", Sampling("uniform", 6), detector, rate=8)
    assert track.seen == 1 and np.ptp(track.squares[:, 0]) > face / 4, "the face wandered"
    cut = crop_frames(track.frames.pixels, track.squares, 224)
    for found in detector.detect([Image.fromarray(picture) for picture in cut]):
        centre = (found.boxes[0][:2] + found.boxes[0][2:]) / 2
        assert np.abs(centre - 112).max() < 0.12 * 224
