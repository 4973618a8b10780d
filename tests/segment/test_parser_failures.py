"""Parsers that fail: on one image, on every one, or for want of memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stand_in_parser import StandIn, make_images, picture

from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.maps.store import MapStore
from llava_face_plugin.parsing.base import Face, Parsed
from llava_face_plugin.segment.run import Options, Summary, segment


def run_with(parser: StandIn, tmp_path: Path, **options: object) -> Summary:
    return segment(tmp_path / "in", tmp_path / "store", lambda: parser, Options(**options))  # type: ignore[arg-type]


def test_one_bad_image_does_not_take_its_batch_with_it(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 10)
    picture(1).save(tmp_path / "in/b/explode.png")
    summary = run_with(StandIn(), tmp_path, images_per_batch=4)
    assert summary.ok == 10 and summary.failed == {"parser": 1}


class Broken(StandIn):
    def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
        assert names is not None
        raise RuntimeError(f"no kernel image is available; {names[0]}")


def test_a_parser_that_fails_on_every_image_stops_the_run(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 20)
    (tmp_path / "in/a.jpg").write_bytes(b"")
    with pytest.raises(FaceHostError, match="8 images in a row with the same error.*no kernel image"):
        run_with(Broken(), tmp_path, images_per_batch=4)
    assert [row.reason for row in MapStore.open(tmp_path / "store").rows()] == ["empty"]
    # and nothing is in the way of the next try
    assert run_with(StandIn(), tmp_path).ok == 20


def test_few_failures_are_not_every_image(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 3)
    assert run_with(Broken(), tmp_path, images_per_batch=4).failed == {"parser": 3}


class Dying(StandIn):
    """Parses ``alive`` images, and then none any more."""

    alive = 9

    def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
        if self.alive < len(images):
            raise RuntimeError("CUDA error: unspecified launch failure")
        self.alive -= len(images)
        return super().parse(images, names)


def test_a_parser_that_dies_stops_the_run_and_its_failures_are_tried_again(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 40)
    for _ in range(2):  # the second run finds finished work, and dies at once
        parser = Dying()
        with pytest.raises(FaceHostError, match="4 images in a row.*finished before is kept.*CUDA error"):
            run_with(parser, tmp_path, images_per_batch=2)
        Dying.alive = 0
    rows = list(MapStore.open(tmp_path / "store").rows())
    assert len(rows) == 9 and {row.status for row in rows} == {"ok"}
    summary = run_with(StandIn(), tmp_path)
    assert (summary.ok, summary.there) == (31, 9)


def test_scattered_failures_are_rows(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 30)
    for i in range(0, 30, 2):
        picture(i).save(tmp_path / f"in/{'abc'[i % 3]}/{i:03d}-explode.png")
    (tmp_path / "in/broken.jpg").write_bytes(b"")
    summary = run_with(StandIn(), tmp_path, images_per_batch=1)
    assert summary.ok == 30 and summary.failed == {"parser": 15, "empty": 1}


def test_what_the_parser_says_of_the_data_stops_nothing(tmp_path: Path) -> None:
    class Picky(StandIn):
        def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
            raise FaceDataError("its stored map is damaged")

    make_images(tmp_path / "in", 20)
    summary = run_with(Picky(), tmp_path, images_per_batch=2)
    assert summary.failed == {"parser": 20} and summary.all_failed


@pytest.mark.parametrize("kind", [FaceHostError, FaceConfigError])
def test_the_parsers_own_verdict_on_itself_is_let_through(tmp_path: Path, kind: type[Exception]) -> None:
    class Unfit(StandIn):
        def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
            raise kind("no such device")

    make_images(tmp_path / "in", 2)
    with pytest.raises(kind, match="^no such device$"):
        run_with(Unfit(), tmp_path)
    assert not list(MapStore.open(tmp_path / "store").rows())


def test_a_map_of_background_alone_is_a_map(tmp_path: Path) -> None:
    class Background(StandIn):
        def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
            return [Parsed(np.zeros((image.height, image.width), np.uint8)) for image in images]

    make_images(tmp_path / "in", 2)
    assert run_with(Background(), tmp_path).ok == 2


def test_messages_are_one_line(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 1)
    (tmp_path / "in/a\nb\x1b.jpg").write_bytes(b"")
    assert run_with(StandIn(), tmp_path).failures == [("empty", r"image a\nb\x1b.jpg: no bytes in it")]
    assert MapStore.open(tmp_path / "store").row("a\nb\x1b.jpg") is not None  # the name itself is as it was


class Hungry(StandIn):
    """Has memory for ``most`` images."""

    most = 4

    def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
        self.sizes = [*getattr(self, "sizes", []), len(images)]
        if len(images) > self.most:
            raise MemoryError
        return super().parse(images, names)


def test_out_of_memory_halves_the_batch(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 20)
    parser = Hungry()
    with pytest.warns(UserWarning, match="out of memory with 8 images in a batch: going on with 4"):
        summary = run_with(parser, tmp_path, images_per_batch=8)
    assert summary.ok == 20
    assert parser.sizes == [8, 4, 4, 4, 4, 4]


def test_out_of_memory_twice_is_an_error(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 20)
    parser = Hungry()
    parser.most = 2
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(FaceHostError, match="ran out of memory with 4 images in a batch: lower --images-per-batch"),
    ):
        run_with(parser, tmp_path, images_per_batch=8)


def test_cuda_out_of_memory_is_known(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class OnGpu(Hungry):
        def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
            try:
                return super().parse(images, names)
            except MemoryError:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory") from None

    make_images(tmp_path / "in", 8)
    with pytest.warns(UserWarning, match="going on with 4"):
        assert run_with(OnGpu(), tmp_path, images_per_batch=8).ok == 8


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (Parsed(np.zeros((3, 3), np.uint8), (Face((0, 0, 1, 1), 1.0, 1.0),)), "expected uint8 (32, 24)"),
        (Parsed(np.ones((32, 24), np.int64)), "int64"),
        (Parsed(np.full((32, 24), 19, np.uint8)), "unknown part ids [19]"),
        (Parsed(np.ones((32, 24), np.uint8), (Face((0, 0, 1, float("nan")), 1.0, 1.0),)), "not finite"),
        ("nonsense", "AttributeError"),
    ],
)
def test_what_a_parser_returns_is_checked(tmp_path: Path, result: Parsed, told: str) -> None:
    class Wrong(StandIn):
        def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
            return [result for _ in images]

    make_images(tmp_path / "in", 1)
    assert run_with(Wrong(), tmp_path).failed == {"parser": 1}
    row = next(MapStore.open(tmp_path / "store").rows())
    assert told in row.message


def test_ctrl_c_in_the_parser_is_not_a_failed_image(tmp_path: Path) -> None:
    class Interrupted(StandIn):
        def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
            raise KeyboardInterrupt

    make_images(tmp_path / "in", 3)
    with pytest.raises(KeyboardInterrupt):
        run_with(Interrupted(), tmp_path)
    assert len(MapStore.open(tmp_path / "store")) == 0
