"""Training from a map store, and inference with a parser: through upstream's own code."""

from __future__ import annotations

import copy
import functools
import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceDataError, FaceHostError
from llava_face_plugin.hosts import label_channel
from llava_face_plugin.hosts.llava_v1_data import FaceDataset
from llava_face_plugin.hosts.llava_v1_model import build_parser
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.maps.files import read_map
from llava_face_plugin.parsing.base import Parsed
from llava_face_plugin.parsing.precomputed import PrecomputedParser
from llava_face_plugin.segment.run import Options, segment
from llava_face_plugin.switch import enable

from . import upstream
from .models import load

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def unmapped(faces: Path, root: Path) -> Path:
    """The training file without its face_map keys."""
    samples = json.loads((faces / "train.json").read_text())
    path = root / "unmapped.json"
    path.write_text(json.dumps([{k: v for k, v in s.items() if k != "face_map"} for s in samples]))
    return path


@pytest.fixture(scope="module")
def store(faces: Path, unmapped: Path, root: Path) -> Path:
    """A map store of the drawn faces, made from their own exact maps by ``segment``."""
    done = segment(
        unmapped, root / "store", lambda: PrecomputedParser(faces / "index.json"), Options(image_folder=faces)
    )
    assert done.ok == done.images > 20 and not done.failed
    return root / "store"


def dataset(base: Path, faces: Path, data: Path, config: FaceConfig, aspect: str) -> tuple[Any, FaceDataset]:
    from llava import conversation
    from llava.train.train import LazySupervisedDataset
    from transformers import AutoTokenizer, CLIPImageProcessor

    conversation.default_conversation = conversation.conv_templates["vicuna_v1"]
    tokenizer = AutoTokenizer.from_pretrained(str(base), use_fast=False, model_max_length=512)
    tokenizer.pad_token = tokenizer.unk_token
    processor = CLIPImageProcessor.from_pretrained(str(base / "clip"))
    wrapped = label_channel.FaceImageProcessor(processor, functools.partial(build_parser, config))
    arguments = SimpleNamespace(
        image_folder=str(faces), image_processor=wrapped, image_aspect_ratio=aspect, is_multimodal=True,
        mm_use_im_start_end=False,
    )  # fmt: skip
    plain = LazySupervisedDataset(str(data), tokenizer, arguments)
    return plain, FaceDataset(plain, config)


def configured(**segmentation: Any) -> FaceConfig:
    return FaceConfig.parse({"preset": "light", "segmentation": segmentation})


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


def test_a_parsing_network_is_never_asked_in_training(base: Path, faces: Path, unmapped: Path, root: Path) -> None:
    parser = {"type": "compact", "path": str(root / "nowhere.safetensors")}
    with pytest.warns(UserWarning, match=r"24 samples have no face_map .* `llava-face segment`"):
        _, face = dataset(base, faces, unmapped, configured(parser=parser), "pad")
    assert bool((face[0]["image"][3] == NO_MAP).all())


def test_a_model_that_has_parsed_can_be_copied(checkpoint: Path, root: Path, network: dict[str, Any]) -> None:
    out = root / "llava-copied"
    enable(checkpoint, out=out, settings={"segmentation": {"parser": network}})
    model = load(out)
    processor = model.get_vision_tower().image_processor
    image = Image.new("RGB", (30, 30), (250, 250, 250))
    parsed = processor.preprocess(image, return_tensors="pt")["pixel_values"]
    assert bool((parsed[0, 3] == 13).all())
    again = pickle.loads(pickle.dumps(processor))
    assert len(pickle.dumps(processor)) < 100_000, "the model travels with its image processor"
    for other in (again, copy.deepcopy(model).get_vision_tower().image_processor):
        assert torch.equal(other.preprocess(image, return_tensors="pt")["pixel_values"], parsed)


def test_the_doctor_opens_store_and_parser(
    checkpoint: Path, base: Path, faces: Path, root: Path, store: Path, network: dict[str, Any]
) -> None:
    from llava_face_plugin.hosts.doctor import examine

    def said(name: str, **segmentation: Any) -> dict[str, str]:
        out = root / name
        enable(checkpoint, out=out, settings={"segmentation": segmentation})
        return {f"{f.level} {f.what}": f.detail for f in examine(out).findings if "segmentation" in f.what}

    good = said("llava-doctor-good", maps=str(store), parser=network)
    assert "(parser 'precomputed')" in good["ok segmentation.maps"] and "torchscript" in good["ok segmentation.parser"]
    assert "made by another parser ('precomputed'" in good["warning segmentation.parser"]
    bad = said("llava-doctor-bad", maps=str(root / "nowhere"), parser={**network, "sha256": "0" * 64})
    assert "no such file or folder" in bad["problem segmentation.maps"]
    assert "the configuration expects 0000" in bad["problem segmentation.parser"]


def test_a_parser_on_a_gpu_is_refused_in_a_loaders_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: SimpleNamespace(id=0))
    parser = {"type": "compact", "path": "x.safetensors", "device": "cuda"}
    with pytest.raises(FaceHostError, match="cannot run in DataLoader workers"):
        build_parser(configured(parser=parser))


class Thirds(torch.nn.Module):
    """Background, skin or hair by brightness: logits (n, 19, h, w) of RGB in 0..1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gray = x.mean(dim=1)
        logits = torch.zeros(x.shape[0], 19, x.shape[2], x.shape[3])
        logits[:, 0] = 2 - 4 * gray
        logits[:, 1] = 1.0 - (gray - 0.5).abs()
        logits[:, 13] = 4 * gray - 2
        return logits


@pytest.fixture(scope="module")
def network(root: Path) -> dict[str, Any]:
    """A TorchScript parser of known behaviour, as a configuration."""
    from llava_face_plugin.parsing.weights import sha256_of

    path = root / "thirds.pt"
    torch.jit.script(Thirds()).save(str(path))
    return {"type": "torchscript", "path": str(path), "sha256": sha256_of(path), "size": 64, "align": "whole"}


def test_anyres_gives_the_parser_the_whole_image(base: Path, network: dict[str, Any]) -> None:
    from llava import mm_utils
    from transformers import CLIPImageProcessor

    from llava_face_plugin.hosts import llava_v1

    llava_v1.activate()
    config = configured(parser=network)
    processor = CLIPImageProcessor.from_pretrained(str(base / "clip"))
    side = processor.crop_size["height"]
    wrapped = label_channel.FaceImageProcessor(processor, lambda: build_parser(config))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 150, 3), dtype=np.uint8))
    model = SimpleNamespace(image_aspect_ratio="anyres", image_grid_pinpoints=[[side, 2 * side], [2 * side, side]])
    found = mm_utils.process_images([image], wrapped, model)[0]
    plain = mm_utils.process_images([image], processor, model)[0]
    assert found.shape == (3, 4, side, side) and torch.equal(found[:, :3], plain)
    labels = build_parser(config).parse([image])[0].labels  # type: ignore[union-attr]
    tiles = label_channel.anyres(labels, mm_utils.select_best_resolution(image.size, model.image_grid_pinpoints), side)
    assert np.array_equal(found[:, 3].numpy(), np.stack(tiles)) and len(np.unique(tiles[0])) > 1


@pytest.mark.launch
def test_upstreams_eval_script_asks_the_parser(
    checkpoint: Path, faces: Path, root: Path, network: dict[str, Any]
) -> None:
    """model_vqa_loader.py as it is, in a process of its own, on pictures that no map was ever made of."""
    import llava

    out = root / "llava-asking"
    enable(checkpoint, out=out, settings={"segmentation": {"parser": network}})
    answers = root / "answers.jsonl"
    command = [
        sys.executable, str(Path(llava.__file__).parent / "eval" / "model_vqa_loader.py"), "--model-path", str(out),
        "--image-folder", str(faces), "--question-file", str(faces / "val_questions.jsonl"), "--answers-file",
        str(answers), "--conv-mode", "vicuna_v1", "--temperature", "0", "--max_new_tokens", "1",
    ]  # fmt: skip
    done = subprocess.run(command, env=upstream.environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("face mode: label maps come from the parser 'torchscript'") == 1
    assert len(answers.read_text().splitlines()) > 3
