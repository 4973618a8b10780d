"""Networks by path: what they are fed, what they are checked for, how their classes become canonical."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.labels import FACE_PARTS, NUM_PARTS
from llava_face_plugin.maps.vocabularies import TO_CANONICAL
from llava_face_plugin.parsing.networks.segformer import load_segformer
from llava_face_plugin.parsing.networks.torchscript import load_torchscript
from tests.parsing.standins import traced

CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_torchscript_of_facers_signature(tmp_path: Path) -> None:
    path, sha256 = traced(tmp_path / "net.pt", 11, 448)
    network = load_torchscript(path, CPU, "lapa", 64, sha256)
    assert (network.size, network.to_canonical, network.digest) == (64, TO_CANONICAL["lapa"], sha256)
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 11, 448, 448)


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1].repeat(1, 19, 1, 1)


def test_torchscript_that_returns_logits_alone_sees_rgb_from_0_to_1(tmp_path: Path) -> None:
    path = tmp_path / "plain.pt"
    torch.jit.script(Plain()).save(str(path))
    with pytest.raises(FaceDataError, match="TorchScript file is code") as error:
        load_torchscript(str(path), CPU)
    sha256 = str(error.value).split('"')[-2]  # the message says what to write
    network = load_torchscript(str(path), CPU, sha256=sha256)
    crops = torch.rand(1, 3, 512, 512)
    assert network.size == 512 and torch.equal(network(crops)[:, 7], crops[:, 0])


def test_torchscript_with_other_classes_is_named(tmp_path: Path) -> None:
    path, sha256 = traced(tmp_path / "net.pt", 11, 64)
    with pytest.raises(FaceConfigError, match=r"net.pt: it has 11 classes, vocabulary 'celebamask-hq' has 19"):
        load_torchscript(path, CPU, "celebamask-hq", 64, sha256)


class Picky(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 3, 100, 100)


def test_torchscript_of_another_input_size_is_named(tmp_path: Path) -> None:
    from llava_face_plugin.parsing.weights import sha256_of

    torch.jit.script(Picky()).save(str(tmp_path / "picky.pt"))
    with pytest.raises(FaceConfigError, match=r"does not run on 1x3x512x512 .*set size"):
        load_torchscript(str(tmp_path / "picky.pt"), CPU, sha256=sha256_of(tmp_path / "picky.pt"))


def test_no_torchscript_is_named(tmp_path: Path) -> None:
    from llava_face_plugin.parsing.weights import sha256_of

    (tmp_path / "net.pt").write_bytes(b"PK junk")
    with pytest.raises(FaceDataError, match="no TorchScript"):
        load_torchscript(str(tmp_path / "net.pt"), CPU, sha256=sha256_of(tmp_path / "net.pt"))


# jonathandinu/face-parsing's own order and names
NAMES = ("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth",
         "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth")  # fmt: skip


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random checkpoint, its classes in reverse order and spelled in their own way."""
    transformers = pytest.importorskip("transformers")
    try:
        model_class, config_class = transformers.SegformerForSemanticSegmentation, transformers.SegformerConfig
    except (RuntimeError, ImportError):
        pytest.skip("transformers cannot be imported here: torchvision does not fit this torch")
    names = [name.replace("eye_g", "Eyeglasses").replace("u_lip", "upper lip") for name in reversed(NAMES)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = config_class(
            num_encoder_blocks=4, depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4,
            decoder_hidden_size=16, id2label=dict(enumerate(names)),
        )  # fmt: skip
        folder = tmp_path_factory.mktemp("segformer")
        model_class(config).save_pretrained(folder, safe_serialization=True)
    return folder


def copied(segformer: Path, tmp_path: Path, **changes: object) -> Path:
    folder = Path(shutil.copytree(segformer, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_segformer_is_remapped_by_name(segformer: Path) -> None:
    network = load_segformer(str(segformer), CPU)
    assert network.size == 512 and network.to_canonical == tuple(reversed(range(NUM_PARTS)))
    assert [FACE_PARTS[i] for i in network.to_canonical] == list(reversed(NAMES))
    with torch.inference_mode():
        assert network(torch.rand(2, 3, 64, 64)).shape == (2, 19, 16, 16)


def test_segformer_is_normalised_as_its_preprocessor_says(segformer: Path, tmp_path: Path) -> None:
    folder = copied(segformer, tmp_path)
    settings = {"size": {"height": 96, "width": 96}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    own, plain = load_segformer(str(folder), CPU), load_segformer(str(segformer), CPU)
    assert own.size == 96 and load_segformer(str(folder), CPU, 64).size == 64 and own.digest != plain.digest
    crops = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(settings[name]).view(1, 3, 1, 1) for name in ("image_mean", "image_std"))
    imagenet_mean, imagenet_std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode():
        same = plain((crops - mean) / std * imagenet_std + imagenet_mean)
        other = plain(crops)
        assert (own(crops) - same).abs().max() < 0.01 * (own(crops) - other).abs().max()


def test_segformer_with_foreign_classes_is_named(segformer: Path, tmp_path: Path) -> None:
    folder = copied(segformer, tmp_path, id2label={str(i): f"road {i}" for i in range(19)})
    with pytest.raises(FaceDataError, match="no face part"):
        load_segformer(str(folder), CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "expected 'segformer'"),
        ({"id2label": None}, "no id2label"),
        ({"id2label": {"x": "skin"}}, "no number"),
        ({"decoder_hidden_size": 24}, "cannot load it"),
    ],
)
def test_segformer_configs_that_do_not_fit(
    segformer: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(FaceDataError, match=message):
        load_segformer(str(copied(segformer, tmp_path, **changes)), CPU)


def test_segformer_without_its_head_is_not_filled_with_random_weights(segformer: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied(segformer, tmp_path)
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if "decode_head" not in k}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(FaceDataError, match=r"lacks \d+ weights, such as decode_head"):
        load_segformer(str(folder), CPU)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_segformer_files_that_are_missing_or_broken(segformer: Path, tmp_path: Path, name: str) -> None:
    folder = copied(segformer, tmp_path)
    (folder / name).write_bytes(b"{")
    with pytest.raises(FaceDataError, match="copy"):
        load_segformer(str(folder), CPU)
    (folder / name).unlink()
    with pytest.raises(FaceDataError, match=f"{name}: no such file"):
        load_segformer(str(folder), CPU)


def test_segformer_hash_is_of_its_weights(segformer: Path) -> None:
    with pytest.raises(FaceDataError, match=r"model.safetensors: its sha256"):
        load_segformer(str(segformer), CPU, sha256="0" * 64)


def test_preprocessors_that_do_not_fit(segformer: Path, tmp_path: Path) -> None:
    folder = copied(segformer, tmp_path)
    for settings, message in (
        ({"size": {"height": 64, "width": 128}}, "square"),
        ({"image_std": [0, 1, 1]}, "three numbers"),
        ({"do_rescale": False}, "do_rescale"),
    ):
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        with pytest.raises(FaceDataError, match=message):
            load_segformer(str(folder), CPU)


def test_a_broken_transformers_is_said(segformer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llava_face_plugin.parsing import extras

    def broken(name: str) -> None:
        raise RuntimeError("Failed to import: operator torchvision::nms does not exist")

    monkeypatch.setattr(extras.importlib, "import_module", broken)
    with pytest.raises(FaceHostError, match="does not fit this torch"):
        load_segformer(str(segformer), CPU)
