"""The compact parser: its shapes, and its file read strictly."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import NUM_PARTS
from llava_face_plugin.parsing.networks.base import Network
from llava_face_plugin.parsing.networks.compact import CompactNet, CompactSettings, load_compact, save_compact

KEY = "face_parser"


def small() -> CompactNet:
    """A net for tests of the file, with batch statistics that are not the initial ones."""
    torch.manual_seed(0)
    net = CompactNet(CompactSettings(stem=8, widths=[8, 16], blocks=[1, 1], decoder=16))
    net.train()(torch.rand(2, 3, 64, 64))
    return net.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_compact(tmp_path / "parser.safetensors", small(), size=64, training={"seed": 0})
    return tmp_path / "parser.safetensors"


def rewritten(path: Path, change: Any = None, weights: dict[str, torch.Tensor] | None = None) -> Path:
    """``path`` with its header changed by ``change(header)``, or with other weights."""
    with safe_open(str(path), framework="pt") as stream:
        header = json.loads(stream.metadata()[KEY])
    if change is not None:
        change(header)
    save_file(weights or load_file(path), path, {KEY: json.dumps(header)})
    return path


def test_the_default_net_is_compact_and_keeps_the_size() -> None:
    net = CompactNet().eval()
    assert 1_500_000 < sum(p.numel() for p in net.parameters()) < 2_500_000
    with torch.inference_mode():
        assert net(torch.rand(2, 3, 128, 128)).shape == (2, NUM_PARTS, 128, 128)
        assert net.coarse(torch.rand(1, 3, 100, 100)).shape == (1, NUM_PARTS, 50, 50)
        assert net(torch.rand(1, 3, 75, 75)).shape == (1, NUM_PARTS, 75, 75)


def test_an_image_is_parsed_alike_alone_and_in_a_batch() -> None:
    net, images = small(), torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        together = net(images)
        torch.testing.assert_close(together[1:2], net(images[1:2]))
    assert not torch.allclose(together[0], together[1])


def test_a_saved_net_gives_equal_logits(saved: Path) -> None:
    network: Network = load_compact(saved)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network(images), small()(images))
    assert network.size == 64 and network.to_canonical == tuple(range(NUM_PARTS))
    assert network.digest == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert load_compact(saved).header.training == {"seed": 0}


def test_weights_of_less_precision_are_saved_as_float32(tmp_path: Path) -> None:
    digest = save_compact(tmp_path / "p.safetensors", small().bfloat16(), size=64, training={})
    assert {v.dtype for v in load_file(tmp_path / "p.safetensors").values()} == {torch.float32, torch.int64}
    assert load_compact(tmp_path / "p.safetensors", sha256=digest)(torch.rand(1, 3, 64, 64)).dtype == torch.float32
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]


def test_another_sha256_is_refused(saved: Path) -> None:
    with pytest.raises(FaceDataError, match=r"parser\.safetensors: its sha256 is .*expected 00"):
        load_compact(saved, sha256="0" * 64)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match="none.safetensors: no such file"):
        load_compact(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_file_cut_off_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(FaceDataError, match=r"parser\.safetensors: not a safetensors file, or cut off"):
        load_compact(saved)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(FaceDataError, match="other.safetensors: not a compact parser"):
        load_compact(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(format=2), "format"),
        (lambda h: h.update(vocabulary="lapa"), "vocabulary"),
        (lambda h: h.update(size="64"), "size"),
        (lambda h: h.pop("training"), "training"),
        (lambda h: h.update(extra=1), "extra"),
        (lambda h: h["settings"].update(stem=10**9), "settings.stem"),
        (lambda h: h["settings"].update(blocks=[1]), "settings.blocks"),
        (lambda h: h["settings"].update(blocks=[1, 1, 1]), "2 widths but 3 block counts"),
    ],
)
def test_a_header_that_is_not_valid_is_refused(saved: Path, change: Any, message: str) -> None:
    with pytest.raises(FaceDataError, match=rf"parser\.safetensors: its header is not valid: .*{message}"):
        load_compact(rewritten(saved, change))


def test_a_header_that_is_no_json_is_refused(saved: Path) -> None:
    save_file(load_file(saved), saved, {KEY: "{"})
    with pytest.raises(FaceDataError, match="its header is not valid"):
        load_compact(saved)


def test_weights_must_fit_the_settings(saved: Path) -> None:
    with pytest.raises(FaceDataError, match="do not fit its settings"):
        load_compact(rewritten(saved, lambda h: h["settings"].update(stem=16)))


def test_missing_and_broken_weights_are_refused(saved: Path) -> None:
    weights = load_file(saved)
    fewer = {name: value for name, value in weights.items() if name != "classify.bias"}
    with pytest.raises(FaceDataError, match="do not fit its settings.*classify.bias"):
        load_compact(rewritten(saved, weights=fewer))
    weights["classify.bias"][3] = float("nan")
    with pytest.raises(FaceDataError, match="not finite"):
        load_compact(rewritten(saved, weights=weights))
