"""The same maps and rows from a Ray cluster as from this process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import stand_in_parser
from fuzz_images import write_malformed
from stand_in_parser import StandIn, content, ids_of, make_images, picture, run, times_parsed

from llava_face_plugin.errors import FaceDataError, FaceHostError
from llava_face_plugin.maps.files import write_map
from llava_face_plugin.parser_config import ParserConfig
from llava_face_plugin.segment.run import Options, segment

ray = pytest.importorskip("ray", reason="needs the extra [ray]")
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Two CPUs of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            object_store_memory=100 * 2**20,
        )  # fmt: skip
        # workers cannot import a module of the tests
        ray.cloudpickle.register_pickle_by_value(stand_in_parser)
        yield
        ray.shutdown()


@pytest.mark.parametrize("form", ["png", "parquet"])
def test_ray_is_local(tmp_path: Path, form: Literal["png", "parquet"]) -> None:
    make_images(tmp_path / "in", 40)
    write_malformed(tmp_path / "in", 25)
    picture(0).save(tmp_path / "in/explode.png")
    log = tmp_path / "log"
    common = {"format": form, "images_per_batch": 2, "workers": 2}
    here = run(tmp_path / "in", tmp_path / "local", **common)
    there = run(tmp_path / "in", tmp_path / "ray", log, engine="ray", **common)
    assert (there.ok, there.no_face, there.failed) == (here.ok, here.no_face, here.failed)
    assert there.failed["parser"] == 1
    assert content(tmp_path / "ray", form) == content(tmp_path / "local", form)
    if form == "png":
        for path in (tmp_path / "local/maps").rglob("*.png"):
            if path.is_file():
                assert (tmp_path / "ray" / path.relative_to(tmp_path / "local")).read_bytes() == path.read_bytes()
    # and each goes on with what the other has begun
    assert run(tmp_path / "in", tmp_path / "ray", **common).done == 0
    assert run(tmp_path / "in", tmp_path / "local", log, engine="ray", **common).done == 0
    assert set(times_parsed(log).values()) == {1}


def test_relative_paths_are_the_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, name in enumerate(make_images(tmp_path / "in", 4)):
        write_map(tmp_path / "maps" / f"{name}.png", ids_of(i))
    monkeypatch.chdir(tmp_path)  # the workers were started elsewhere
    summary = segment("in", "store", ParserConfig(type="precomputed", path="maps"), Options(engine="ray", workers=1))
    assert (summary.ok, summary.failed.total()) == (4, 0)


class Missing(StandIn):
    def __init__(self) -> None:
        raise FaceDataError("parser weights /nowhere: no such file")


def test_errors_come_as_they_are(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 30)
    with pytest.raises(FaceDataError, match="^parser weights /nowhere: no such file$"):
        segment(tmp_path / "in", tmp_path / "store", _missing(), Options(engine="ray"))
    with pytest.raises(FaceHostError, match="failed on 4 images in a row with the same error"):
        segment(tmp_path / "in", tmp_path / "store", _broken(), Options(engine="ray", images_per_batch=2))


def _missing() -> partial[StandIn]:
    ray.cloudpickle.register_pickle_by_value(__import__(__name__))
    return partial(Missing)


def _broken() -> partial[StandIn]:
    return partial(Broken)


class Broken(StandIn):
    def parse(self, images: object, names: object = None) -> list[object]:  # type: ignore[override]
        raise RuntimeError("no kernel image is available")
