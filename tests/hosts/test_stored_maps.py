"""Training from a map store, through upstream's own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.maps.files import read_map
from llava_face_plugin.parsing.base import Parsed
from llava_face_plugin.parsing.precomputed import PrecomputedParser
from llava_face_plugin.segment.run import Options, segment
from llava_face_plugin.switch import enable

from . import upstream
from .map_data import configured, dataset
from .models import load

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("aspect", ["pad", "square"])
def test_a_map_from_the_store_is_the_map_the_sample_would_name(
    base: Path, faces: Path, unmapped: Path, store: Path, aspect: str
) -> None:
    """Mask -> store -> training batch equals mask -> training batch, bit for bit."""
    _, named = dataset(base, faces, faces / "train.json", configured(), aspect)
    _, stored = dataset(base, faces, unmapped, configured(maps=str(store)), aspect)
    known = 0
    for i in range(len(named)):
        assert torch.equal(named[i]["image"], stored[i]["image"])
        known += bool((stored[i]["image"][3] != NO_MAP).any())
    assert known > 20


def test_images_that_are_not_in_the_store_are_told(
    base: Path, faces: Path, unmapped: Path, root: Path, store: Path
) -> None:
    """Some: they have no map, and more than half is a warning. All: it is another data set's store, and an error."""
    known = json.loads(unmapped.read_text())[:2]
    strangers = []
    for n in range(3):
        Image.new("RGB", (30, 40), (9, 200, n)).save(faces / "images" / f"stranger{n}.png")
        turns = [{"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": "Nobody."}]
        strangers.append({"id": f"s{n}", "image": f"images/stranger{n}.png", "conversations": turns})
    data = root / "strangers.json"
    data.write_text(json.dumps([*strangers, *known]))
    with pytest.warns(UserWarning, match="3 of 5 images looked at have no map"):
        _, face = dataset(base, faces, data, configured(maps=str(store)), "pad")
    assert bool((face[0]["image"][3] == NO_MAP).all()) and bool((face[3]["image"][3] != NO_MAP).any())
    data.write_text(json.dumps(strangers))
    with pytest.raises(FaceDataError, match=r"no map of any of 3 images, such as 'images/stranger0\.png'"):
        dataset(base, faces, data, configured(maps=str(store)), "pad")
    with pytest.raises(FaceDataError, match="no map of any of 24 images"):  # an index knows pixels, not names
        dataset(base, faces, unmapped, configured(maps=str(faces / "index.json")), "pad")


def test_an_absolute_image_path_is_found_too(base: Path, faces: Path, unmapped: Path, root: Path, store: Path) -> None:
    samples = json.loads(unmapped.read_text())[:1]
    data = root / "absolute.json"
    data.write_text(json.dumps([{**s, "image": str(faces / s["image"])} for s in samples]))
    _, face = dataset(base, faces, data, configured(maps=str(store)), "pad")
    assert bool((face[0]["image"][3] != NO_MAP).any())


@pytest.mark.parametrize("form", ["png", "parquet"])
def test_real_masks_reach_the_batch_bit_for_bit(base: Path, root: Path, real_faces: Path, form: str) -> None:
    """CelebAMask-HQ: mask -> store -> sample equals mask -> sample."""
    folder = real_faces / "celebamask_hq"
    names = sorted(p.stem for p in (folder / "masks").glob("*.png"))[:30]
    if not names:
        pytest.skip("FACE_TEST_DATA has no celebamask_hq/")
    turns = [{"from": "human", "value": "<image>\nHat?"}, {"from": "gpt", "value": "No"}]
    rows = [{"id": n, "image": f"images/{n}.jpg", "conversations": turns} for n in names]
    data, named = root / f"real-{form}.json", root / f"real-named-{form}.json"
    data.write_text(json.dumps(rows))
    named.write_text(json.dumps([{**r, "face_map": f"masks/{r['id']}.png"} for r in rows]))

    class Masks(PrecomputedParser):
        def parse(self, images: Any, names: Any = None) -> list[Parsed]:
            return [Parsed(read_map(folder / "masks" / f"{Path(name).stem}.png")) for name in names]

    options = Options(image_folder=folder, format=form)  # type: ignore[arg-type]
    segment(data, root / f"real-{form}", lambda: Masks(folder / "masks"), options)
    _, expected = dataset(base, folder, named, configured(), "pad")
    _, found = dataset(base, folder, data, configured(maps=str(root / f"real-{form}")), "pad")
    for i in range(len(rows)):
        assert torch.equal(expected[i]["image"], found[i]["image"])


@pytest.mark.parametrize(("form", "start"), [("png", "fork"), ("parquet", "fork"), ("parquet", "spawn")])
def test_data_loader_workers_read_the_store(
    base: Path, faces: Path, unmapped: Path, root: Path, form: str, start: str
) -> None:
    store = root / f"store-{form}-{start}"
    options = Options(image_folder=faces, format=form)  # type: ignore[arg-type]
    segment(unmapped, store, lambda: PrecomputedParser(faces / "index.json"), options)
    config = configured(maps=str(store), parser={"type": "precomputed", "path": str(faces / "index.json")})
    _, face = dataset(base, faces, unmapped, config, "pad")
    expected = [face[i]["image"] for i in range(8)]
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(face, range(8)), batch_size=None, num_workers=2 if start == "fork" else 1,
        multiprocessing_context=start,
    )  # fmt: skip
    found = [item["image"] for item in loader]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert all(bool((image[3] != NO_MAP).any()) for image in found)


def test_an_image_that_changed_its_shape_is_named(base: Path, faces: Path, unmapped: Path, store: Path) -> None:
    _, face = dataset(base, faces, unmapped, configured(maps=str(store)), "pad")
    image = faces / json.loads(unmapped.read_text())[0]["image"]
    before = image.read_bytes()
    try:
        Image.new("RGB", (50, 20)).save(image)
        with pytest.raises(FaceDataError, match=rf"face map of .*{image.name} in the store .* 50x20"):
            face[0]
        lenient = configured(maps=str(store), bad_map="no-map")
        _, face = dataset(base, faces, unmapped, lenient, "pad")
        with pytest.warns(UserWarning, match="trained without a map"):
            assert bool((face[0]["image"][3] == NO_MAP).all())
    finally:
        image.write_bytes(before)


def test_a_training_runs_from_the_store_alone(base: Path, faces: Path, unmapped: Path, store: Path, root: Path) -> None:
    """Upstream's train_mem.py: the same losses as with the maps named in the data."""
    losses = []
    for name, data, settings in (
        ("named", faces / "train.json", {}),
        ("stored", unmapped, {"segmentation": {"maps": str(store)}}),
    ):
        source = root / f"base-{name}"
        enable(base, out=source, settings=settings)
        out = root / f"llava-from-{name}"
        upstream.train(upstream.flags(source, base / "clip", faces, out, data_path=data, learning_rate=1e-2))
        losses.append([entry["loss"] for entry in upstream.logs(out)])
        gate = load(out).get_model().mm_projector.face.fusion.gate
        assert bool((gate != 0).any())
    assert losses[0] == losses[1] and len(losses[0]) == 2
