"""A parser that LLaVA asks for maps, at inference and never in training: through upstream's own code."""

from __future__ import annotations

import copy
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

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.hosts import label_channel
from llava_face_plugin.hosts.parsers import build_parser
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.switch import enable

from . import upstream
from .map_data import configured, dataset
from .models import load

pytestmark = pytest.mark.contract


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
