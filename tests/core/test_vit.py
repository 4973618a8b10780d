"""The vision transformer against transformers' CLIP, SigLIP and DINOv2, and against CLIP's own layout for FaRL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llava_face_plugin.encoders import READERS
from llava_face_plugin.encoders.backbones import FrozenVit
from llava_face_plugin.encoders.vit import VisionTransformer
from llava_face_plugin.encoders.vit_weights import fit, load_weights, resized
from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.facial_config import FacialConfig, VitConfig
from tests.core.standin import facial_block, farl_state, tiny_farl
from tests.parsing.standins import import_facer

TAPS = [0, 2]


def built(path: str, encoder: str, **changes: Any) -> tuple[VisionTransformer, FacialConfig]:
    """The encoder at a path, as ``llava-face enable`` describes it."""
    found = READERS[encoder](path)
    block = {"encoder": encoder, "path": path, "taps": TAPS, "size": found.size, "vit": found.vit.model_dump()}
    block = {**block, "mean": found.mean, "std": found.std, **changes}
    config = FacialConfig.model_validate(block)
    model = VisionTransformer(config.vit, config.grid, config.taps[-1] + 1)
    model.load_state_dict(fit(found, config))
    return model.eval(), config


class ClipBlock(nn.Module):
    """A block of OpenAI's CLIP, with the layers that give its checkpoint's names."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y)[0]
        y = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(y / (1 + torch.exp(-1.702 * y)))


def clip_outputs(state: Mapping[str, Tensor], pixels: Tensor, depth: int, heads: int) -> list[Tensor]:
    """Patches behind every block, of the image tower in a FaRL checkpoint's ``state_dict``."""
    visual = {name.removeprefix("visual."): v for name, v in state.items() if name.startswith("visual.")}
    width, hidden = len(visual["class_embedding"]), len(visual["transformer.resblocks.0.mlp.c_fc.bias"])
    kernel = visual["conv1.weight"]
    x = nn.functional.conv2d(pixels, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    x = torch.cat([visual["class_embedding"].expand(len(x), 1, -1), x], dim=1) + visual["positional_embedding"]
    x = nn.functional.layer_norm(x, (width,), visual["ln_pre.weight"], visual["ln_pre.bias"])
    out = []
    for n in range(depth):
        block, prefix = ClipBlock(width, heads, hidden), f"transformer.resblocks.{n}."
        block.load_state_dict({k.removeprefix(prefix): v for k, v in visual.items() if k.startswith(prefix)})
        x = block(x)
        out.append(x[:, 1:])
    return out


@pytest.mark.parametrize("width", [64, 128])
def test_farls_format_is_read_as_clip_is(tmp_path: Path, width: int) -> None:
    state = farl_state(width=width, hidden=2 * width)
    torch.save({"state_dict": state}, tmp_path / "farl.pth")
    model, config = built(str(tmp_path / "farl.pth"), "farl")
    assert config.vit == VitConfig(width=width, depth=3, heads=width // 64, hidden=2 * width, patch=4)
    assert config.size == 16
    pixels = torch.randn(2, 3, 16, 16)
    expected = clip_outputs(state, pixels, 3, width // 64)
    for found, tap in zip(model(pixels, TAPS), TAPS, strict=True):
        torch.testing.assert_close(found, expected[tap], rtol=1e-4, atol=1e-4)


@pytest.mark.facer
def test_farls_format_is_read_as_facer_reads_it(tmp_path: Path) -> None:
    """FaRL's own class at its full size, with random weights."""
    import_facer()
    from facer.face_alignment.network.transformers import FaRLVisualFeatures
    from facer.farl.model import VisualTransformer

    tower = VisualTransformer(224, 16, 768, 12, 12, 512)
    state = {f"visual.{name}": value for name, value in tower.state_dict().items()}
    torch.save({"state_dict": state | {"logit_scale": torch.ones(())}}, tmp_path / "farl.pth")
    path, rgb = str(tmp_path / "farl.pth"), torch.rand(1, 3, 448, 448)
    theirs = FaRLVisualFeatures("base", path, forced_input_resolution=448, apply_fpn=False).eval()
    config = FacialConfig(path=path, size=448)
    model = VisionTransformer(config.vit, config.grid, 12)
    model.load_state_dict(load_weights(config))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    with torch.no_grad():
        expected, _ = theirs(rgb)
        found = model((rgb - mean) / std, config.taps)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-3)


def transformers_tower(family: str) -> Any:
    transformers = pytest.importorskip("transformers", reason="needs transformers' towers")
    size = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 16, "patch_size": 4,
        "attn_implementation": "eager",
    }  # fmt: skip
    names = {"clip": "CLIPVision", "siglip": "SiglipVision", "dinov2": "Dinov2", "registers": "Dinov2WithRegisters"}
    if family in ("clip", "siglip"):
        size["intermediate_size"] = 48
    else:
        size["mlp_ratio"] = 2
    if not hasattr(transformers, f"{names[family]}Model"):
        pytest.skip(f"transformers {transformers.__version__} has no {names[family]}Model")
    torch.manual_seed(1)
    config = getattr(transformers, f"{names[family]}Config")(**size)
    model = getattr(transformers, f"{names[family]}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the libraries start biases, norms and factors at 0 and 1
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


@pytest.mark.contract
@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2", "registers"])
def test_equals_transformers(tmp_path: Path, family: str) -> None:
    tower = transformers_tower(family)
    from transformers import CLIPImageProcessor

    tower.save_pretrained(tmp_path)
    CLIPImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]).save_pretrained(tmp_path)
    model, config = built(str(tmp_path), "transformers")
    assert (config.size, config.mean, config.std) == (16, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        hidden = tower(pixels, output_hidden_states=True).hidden_states
        found = model(pixels, TAPS)
    for one, tap in zip(found, TAPS, strict=True):
        torch.testing.assert_close(one, hidden[tap + 1][:, -16:], rtol=1e-4, atol=1e-5)


@pytest.mark.contract
def test_the_vision_half_of_a_whole_clip_is_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers' CLIP")
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    whole = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision)).eval()
    whole.save_pretrained(tmp_path)
    transformers.CLIPImageProcessor().save_pretrained(tmp_path)
    model, _ = built(str(tmp_path), "transformers", taps=[1])
    pixels = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = whole.vision_model(pixels, output_hidden_states=True).hidden_states[2][:, 1:]
        torch.testing.assert_close(model(pixels, [1])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.contract
def test_a_directory_without_some_of_the_weights_is_refused(tmp_path: Path) -> None:
    transformers_tower("clip").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if "layers.1.mlp.fc1.weight" in name)
    weights.pop(lost)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    from transformers import CLIPImageProcessor

    CLIPImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(FaceDataError, match=r"1 weights are missing: encoder\.layers\.1\.mlp\.fc1\.weight"):
        READERS["transformers"](str(tmp_path))
    with pytest.raises(FaceDataError, match="1 weights are missing"):
        FrozenVit(str(tmp_path), -2)(torch.rand(1, 3, 28, 28))


def test_a_damaged_directory_is_one_error(tmp_path: Path) -> None:
    transformers_tower("clip").save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(FaceDataError, match=str(tmp_path)) as caught:
        READERS["transformers"](str(tmp_path))
    assert caught.value.reason == "damaged"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.conv1.weight": torch.zeros(200, 3, 4, 4)}, "multiple of its 3 heads"),
        ({"visual.positional_embedding": torch.zeros(17)}, "not a row a token"),
        ({"visual.positional_embedding": torch.full((17, 64), torch.nan)}, "not finite"),
    ],
)
def test_a_strange_farl_file_is_one_error(tmp_path: Path, change: dict[str, Tensor], message: str) -> None:
    torch.save({"state_dict": {**farl_state(), **change}}, tmp_path / "farl.pth")
    config = FacialConfig.model_validate(facial_block(path=str(tmp_path / "farl.pth")))
    with pytest.raises(FaceDataError, match=message):
        load_weights(config)


def test_other_models_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs transformers' readers")
    with pytest.raises(FaceConfigError, match="face.facial.path .* is a 'llama'.*use CLIP, SigLIP or DINOv2"):
        READERS["transformers"](str(tiny_base))
    with pytest.raises(FaceConfigError, match="face.facial.path .* cannot be read"):
        READERS["transformers"](str(tmp_path))


def test_safetensors_of_the_image_tower_alone_are_read(tmp_path: Path) -> None:
    state = {n.removeprefix("visual."): v for n, v in farl_state().items() if n.startswith("visual.")}
    save_file({n: v.contiguous() for n, v in state.items()}, tmp_path / "farl.safetensors")
    one, other = READERS["farl"](str(tmp_path / "farl.safetensors")), READERS["farl"](tiny_farl())
    assert one.vit == other.vit and all(torch.equal(one.weights[name], other.weights[name]) for name in other.weights)


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    torch.save({"state_dict": {n: v.half() for n, v in farl_state().items()}}, tmp_path / "farl.pth")
    assert {v.dtype for v in READERS["farl"](str(tmp_path / "farl.pth")).weights.values()} == {torch.float32}


def test_blocks_behind_the_last_tap_are_not_built() -> None:
    config = FacialConfig.model_validate(facial_block(taps=[0]))
    assert {name.split(".")[1] for name in load_weights(config) if name.startswith("blocks.")} == {"0"}


def test_position_embeddings_keep_the_class_token_and_are_interpolated() -> None:
    positions = torch.cat([torch.full((1, 2), 9.0), torch.full((16, 2), 5.0)])
    wider = resized(positions, 6, extra=1)
    assert wider.shape == (37, 2) and (wider[0] == 9).all()
    torch.testing.assert_close(wider[1:], torch.full((36, 2), 5.0))
    assert resized(positions, 4, extra=1) is positions
    rows = torch.arange(4.0).repeat_interleave(4)[:, None]  # the row's number: must grow downwards, and only so
    grown = resized(rows, 8, extra=0).view(8, 8)
    assert (grown.diff(dim=0) > 0).all() and torch.allclose(grown, grown[:, :1].expand(8, 8), atol=1e-5)


def test_resized_to_another_size_the_encoder_still_runs() -> None:
    model, config = built(tiny_farl(), "farl", size=24)
    assert [t.shape for t in model(torch.randn(1, 3, 24, 24), TAPS)] == [(1, 36, 64)] * 2
    assert config.grid == 6


def changed(change: Any, path: Path) -> str:
    state = farl_state()
    change(state)
    torch.save({"state_dict": state}, path)
    return str(path)


BROKEN = {
    "missing weight": (lambda s: s.pop("visual.ln_pre.bias"), "1 weights are missing: norm.bias"),
    "missing block": (
        lambda s: [s.pop(n) for n in list(s) if "visual.transformer.resblocks.1." in n], "12 weights are missing",
    ),
    "unknown weight": (lambda s: s.update({"visual.adapter": torch.zeros(1)}), "'adapter' is no weight"),
    "unknown in a block": (
        lambda s: s.update({"visual.transformer.resblocks.0.attn.gate": torch.zeros(1)}), "attn.gate' is no weight",
    ),
    "no image tower": (lambda s: [s.pop(n) for n in list(s) if n.startswith("visual.")], "no image tower"),
    "no block": (lambda s: [s.pop(n) for n in list(s) if "visual.transformer" in n], "no transformer block"),
    "positions": (
        lambda s: s.update({"visual.positional_embedding": torch.zeros(8, 64)}), "not those of a square grid",
    ),
    "no positions": (lambda s: s.pop("visual.positional_embedding"), "not those of a square grid"),
    "shape": (
        lambda s: s.update({"visual.transformer.resblocks.2.mlp.c_proj.weight": torch.zeros(64, 95)}),
        r"blocks.2.project.weight is \(64, 95\), not \(64, 96\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, kind: str) -> None:
    change, message = BROKEN[kind]
    path = changed(change, tmp_path / "farl.pth")
    with pytest.raises(FaceDataError, match=message) as caught:
        load_weights(FacialConfig.model_validate(facial_block(path=path)))
    assert path in str(caught.value)


def test_a_shape_that_the_block_does_not_name_is_refused() -> None:
    config = FacialConfig.model_validate(facial_block(vit={**facial_block()["vit"], "heads": 2, "hidden": 95}))
    with pytest.raises(FaceDataError, match=r"face.facial.vit says heads 2, hidden 95, but the weights have heads 1"):
        load_weights(config)


@pytest.mark.parametrize("name", ["farl.pth", "farl.safetensors"])
def test_files_that_are_no_weights_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(FaceDataError, match="no such file"):
        READERS["farl"](str(path))
    path.write_bytes(b"not weights at all")
    with pytest.raises(FaceDataError, match="not a readable"):
        READERS["farl"](str(path))
    whole = Path(tiny_farl()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FaceDataError, match="not a readable"):
        READERS["farl"](str(path))


class Harmful:
    """Unpickled it would touch a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": farl_state(), "config": Harmful(tmp_path / "ran")}, tmp_path / "farl.pth")
    with pytest.raises(FaceDataError, match="not a readable state dict"):
        READERS["farl"](str(tmp_path / "farl.pth"))
    assert not (tmp_path / "ran").exists()
