"""Video files and folders of frames: what is read, and one clear error for what cannot be."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.parsing.detectors.base import Detection
from llava_face_plugin.video import Sampling, decoders, limits, read_frames
from llava_face_plugin.video.write import write_frames, write_mp4

T, H, W, RATE = 24, 48, 64, 12.0
INSTALLED = [name for name in decoders.DECODERS if importlib.util.find_spec(name)]
pytestmark = pytest.mark.skipif(not INSTALLED, reason="neither PyAV nor OpenCV is installed")
each_decoder = pytest.mark.parametrize("decoder", INSTALLED)


def clip() -> np.ndarray:
    """(T, H, W, 3): smooth, and the red channel says which frame it is."""
    y, x = np.mgrid[0:H, 0:W]
    return np.stack([np.stack([np.full_like(x, 10 * i), y * 4, x * 3], axis=-1) for i in range(T)]).astype(np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "a.mp4"
    write_mp4(path, clip(), RATE)
    return path


@each_decoder
def test_frames_and_times(video: Path, decoder: str) -> None:
    found = read_frames(video, Sampling("uniform", 5), decoder=decoder)
    assert found.places.tolist() == [0, 5, 11, 17, 23] and found.total == T and len(found) == 5
    assert found.times == pytest.approx(found.places / RATE) and found.seconds == pytest.approx(23 / RATE)
    assert found.pixels.shape == (5, H, W, 3) and found.pixels.dtype == np.uint8
    # Lossy, but each frame is nearest to its own original: no frame is mixed up.
    apart = np.abs(found.pixels[:, None].astype(int) - clip()[None].astype(int)).mean(axis=(2, 3, 4))
    assert apart.argmin(axis=1).tolist() == found.places.tolist() and apart.min(axis=1).max() < 6
    again = read_frames(video, Sampling("uniform", 5), decoder=decoder)
    assert np.array_equal(found.pixels, again.pixels)
    assert read_frames(video, Sampling("fps", 16, 4.0), decoder=decoder).places.tolist() == [0, 3, 6, 9, 12, 15, 18, 21]


@each_decoder
def test_broken_files(video: Path, decoder: str, tmp_path: Path) -> None:
    data = video.read_bytes()
    noisy = bytearray(data)
    box = data.find(b"mdat")  # 4 bytes of its length stand before its name
    length = int.from_bytes(data[box - 4 : box], "big")
    start, end = box + length // 4, box + length // 2
    noisy[start:end] = np.random.default_rng(0).integers(0, 256, end - start, dtype=np.uint8).tobytes()
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.mp4", format="PNG")
    for name, content, reason in (
        ("empty.mp4", b"", "empty"), ("words.mp4", b"these are words\n" * 40, "format"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://example.org/a.ts\n" * 20, "format"),
        ("picture.mp4", None, "format"), ("half.mp4", data[: len(data) // 2], "damaged"),
        ("head.mp4", data[:64], "damaged"), ("noise.mp4", bytes(noisy), "damaged"),
    ):  # fmt: skip
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(FaceDataError, match=name) as caught:
            read_frames(path, decoder=decoder)
        assert caught.value.reason == reason and "\n" not in str(caught.value), name
    with pytest.raises(FaceDataError, match="no such file or folder") as caught:
        read_frames(tmp_path / "nothing.mp4", decoder=decoder)
    assert caught.value.reason == "missing"


WRITE_NOISE = """
import sys, av, numpy as np
path, codec, height, width = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with av.open(path, "w") as container:
    stream = container.add_stream(codec, rate=10)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    for picture in np.random.default_rng(0).integers(0, 256, (40, height, width, 3), dtype=np.uint8):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode(None))
"""


@each_decoder
@pytest.mark.parametrize("ending", ["mkv", "webm", "avi", "mov", "flv"])
def test_other_containers(decoder: str, ending: str, tmp_path: Path) -> None:
    """Whole ones are read, halves are refused: by their number of frames, or where they have none by their duration."""
    pytest.importorskip("av")
    path = tmp_path / f"a.{ending}"
    codec = {"webm": "libvpx", "avi": "mpeg4"}.get(ending, "libx264")
    # In a process of its own: where decord was imported before, PyAV finds decord's libvpx, and cannot encode.
    subprocess.run([sys.executable, "-c", WRITE_NOISE, path, codec, str(H), str(W)], check=True)
    found = read_frames(path, Sampling("uniform", 3), decoder=decoder)
    assert found.total == 40 and found.times == pytest.approx([0, 1.9, 3.9], abs=0.002)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FaceDataError, match="damaged") as caught:
        read_frames(path, decoder=decoder)
    assert caught.value.reason == "damaged"


@each_decoder
def test_a_sound_file_is_no_clip(decoder: str, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(FaceDataError, match=r"sound\.mp4"):
        read_frames(path, decoder=decoder)


@each_decoder
def test_limits(video: Path, decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, message in (
        ("MAX_PIXELS", H * W - 1, "64x48 pixels"), ("MAX_FRAMES", 10, "limit of 10 frames"),
        ("MAX_BYTES", 5 * H * W * 3 - 1, "choose fewer"),
    ):  # fmt: skip
        with monkeypatch.context() as patch, pytest.raises(FaceDataError, match=message) as caught:
            patch.setattr(limits, name, value)
            read_frames(video, Sampling("uniform", 5), decoder=decoder)
        assert caught.value.reason == "too-large" and "a.mp4" in str(caught.value)


def test_the_decoders_agree(video: Path) -> None:
    if len(INSTALLED) < 2:
        pytest.skip("only one of PyAV and OpenCV is installed")
    a, b = (read_frames(video, Sampling("fps", 16, 6.0), decoder=d) for d in INSTALLED)
    assert a.places.tolist() == b.places.tolist() and a.times == pytest.approx(b.times)
    assert np.abs(a.pixels.astype(int) - b.pixels.astype(int)).mean() < 2


def test_decoders_by_name(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FaceConfigError, match="known: av, cv2"):
        read_frames(video, decoder="decord")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FaceHostError, match="needs PyAV or OpenCV"):
        read_frames(video)


def test_folders_are_exact(tmp_path: Path) -> None:
    paths = write_frames(tmp_path / "frames", clip())
    assert [p.name for p in paths[:2]] == ["00001.png", "00002.png"]
    found = read_frames(tmp_path / "frames", Sampling("uniform", T), rate=RATE)
    assert np.array_equal(found.pixels, clip()) and found.times == pytest.approx(np.arange(T) / RATE)
    other = tmp_path / "unpadded"
    other.mkdir()
    for i in range(12):
        Image.fromarray(clip()[i]).save(other / f"f{i}.jpg", quality=95)
    (other / "notes.txt").write_text("no frame")
    (other / ".hidden.png").write_bytes(b"")
    assert read_frames(other, Sampling("uniform", 12)).pixels[:, 0, 0, 0] == pytest.approx(10 * np.arange(12), abs=6)


def test_bad_folders(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(FaceDataError, match="no frame") as caught:
        read_frames(tmp_path / "none")
    assert caught.value.reason == "empty"
    folder = tmp_path / "frames"
    write_frames(folder, clip()[:4])
    with pytest.raises(FaceDataError, match="rate must be above 0"):
        read_frames(folder, rate=0)
    Image.new("RGB", (10, 10)).save(folder / "00003.png")
    with pytest.raises(FaceDataError, match=r"00003\.png has 10x10 pixels"):
        read_frames(folder)
    (folder / "00003.png").write_bytes((folder / "00002.png").read_bytes()[:60])
    with pytest.raises(FaceDataError, match=r"00003\.png"):
        read_frames(folder)


class Seen:
    """A stand-in detector: a face as large as the red channel's value; none where it is odd tens."""

    digest = ""

    def __init__(self) -> None:
        self.asked = 0

    def detect(self, images: Sequence[Image.Image]) -> list[Detection]:
        found = []
        for image in images:
            red = round(np.asarray(image)[..., 0].mean() / 10)
            self.asked += 1
            side = red + 1
            boxes = np.array([[0, 0, side, side]] if red % 2 == 0 else [], dtype=np.float32).reshape(-1, 4)
            found.append(Detection(boxes, None, np.ones(len(boxes), dtype=np.float32)))
        return found


def test_face_centred(tmp_path: Path) -> None:
    write_frames(tmp_path / "clip", clip())
    detector = Seen()
    found = read_frames(tmp_path / "clip", Sampling("face", 3), detector, rate=RATE)
    # 12 of 24 frames are looked at (0 2 4 6 8 10 12 14 16 18 20 23), in 3 parts; the last of them has no face.
    assert detector.asked == 12 and found.places.tolist() == [6, 14, 20]
    assert found.boxes is not None and found.boxes[:, 2].tolist() == [7, 15, 21]
    with pytest.raises(FaceDataError, match="needs a detector"):
        read_frames(tmp_path / "clip", Sampling("face", 3))


def test_writing_refuses(tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match="even width and height"):
        write_mp4(tmp_path / "a.mp4", clip()[:, :-1], RATE)
    with pytest.raises(FaceDataError, match=r"expected \(T, H, W, 3\) uint8"):
        write_frames(tmp_path / "a", clip().astype(float))
    assert list(tmp_path.iterdir()) == []
