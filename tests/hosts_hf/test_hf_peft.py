"""PEFT on the face classes: what was trained is what is loaded again, and what is merged.

Tolerances, on logits of a few units: reloaded is equal to the bit; merged and unmerged within 1e-5, for W + BA is added
in another order; in 4 bits within 1e-2, for bitsandbytes takes another kernel where nothing needs a gradient.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from llava_face_plugin.checkpoints import apply_adapter, load_adapter, save_adapter
from llava_face_plugin.errors import FaceConfigError, FaceHostError

from .tiny_hf import FACE, batch, load, some_attributes, switched_on

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.contract

LANGUAGE = r".*language_model.*\.(q_proj|v_proj)"
WAYS: dict[str, dict[str, Any]] = {
    "lora": {"modules_to_save": ["multi_modal_projector"]},
    "dora": {"modules_to_save": ["multi_modal_projector"], "use_dora": True},
    "rslora": {"modules_to_save": ["multi_modal_projector"], "use_rslora": True},
    "branch alone saved": {"modules_to_save": ["face"]},
}


def adapted(model: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    return peft.get_peft_model(model, peft.LoraConfig(**{"target_modules": LANGUAGE, "r": 4, **settings}))


def trained(model: Any, inputs: dict[str, torch.Tensor], steps: int = 3) -> Any:
    """A few steps on what the model lets train; large ones, so that every part has moved."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**inputs, face_attributes=some_attributes()).loss.backward()
        optimizer.step()
    return model.eval()


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("way", "which"),
    [
        *((way, ("part-embedding", "gated_add")) for way in WAYS),
        ("lora", ("facial", "moe")),
        ("branch alone saved", ("part-embedding & facial-trained", "moe")),
    ],
)
def test_trained_reloaded_and_merged_are_one(root: Path, tmp_path: Path, way: str, which: tuple[str, str]) -> None:
    base, inputs = switched_on("llava", root, *which), batch("llava")
    plain = load(base)
    before = logits(plain, inputs)
    model = trained(adapted(plain, **WAYS[way]), inputs)
    expected = logits(model, inputs)
    assert (expected - before).abs().max() > 0.1
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(load(base), tmp_path / "adapter").eval()
    assert torch.equal(logits(again, inputs), expected)
    again.merge_adapter()
    assert close(logits(again, inputs), expected)
    again.unmerge_adapter()
    assert close(logits(again, inputs), expected)
    with again.disable_adapter():
        assert close(logits(again, inputs), before)
    merged = again.merge_and_unload()
    assert close(logits(merged, inputs), expected)
    merged.save_pretrained(tmp_path / "merged")
    assert close(logits(load(tmp_path / "merged"), inputs), expected)


@pytest.mark.parametrize("way", ["lora", "branch alone saved"])
def test_the_face_adapter_of_each_form_is_the_same(root: Path, tmp_path: Path, way: str) -> None:
    base, inputs = switched_on("llava", root), batch("llava")
    model = trained(adapted(load(base), **WAYS[way]), inputs)
    model.save_pretrained(tmp_path / "adapter")
    live = save_adapter(model, tmp_path / "live.safetensors", with_projector=True)
    with pytest.raises(FaceConfigError, match="name its base"):
        save_adapter(_with_base(tmp_path / "adapter", "someone/llava"), tmp_path / "no.safetensors")
    files = save_adapter(tmp_path / "adapter", tmp_path / "files.safetensors", base=base, with_projector=True)
    _with_base(tmp_path / "adapter", str(base))
    recorded = save_adapter(tmp_path / "adapter", tmp_path / "recorded.safetensors", with_projector=True)
    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    whole = save_adapter(tmp_path / "merged", tmp_path / "whole.safetensors", with_projector=True)
    for other in (files, recorded, whole):
        assert other.tensors.keys() == live.tensors.keys() and other.projector.keys() == live.projector.keys()
        for name, tensor in {**live.tensors, **live.projector}.items():
            assert torch.equal({**other.tensors, **other.projector}[name], tensor), name
        assert other.projector_sha256 == live.projector_sha256


def _with_base(adapter: Path, base: str) -> Path:
    from llava_face_plugin.model_files import read_config, write_config

    config = read_config(adapter, "adapter_config.json")
    write_config(adapter, config | {"base_model_name_or_path": base}, "adapter_config.json")
    return adapter


def test_several_adapters_each_have_their_branch(root: Path, tmp_path: Path) -> None:
    base, inputs = switched_on("llava", root), batch("llava")
    model = adapted(load(base), modules_to_save=["multi_modal_projector"])
    before = logits(model.eval(), inputs)
    trained(model, inputs)
    first = logits(model, inputs)
    torch.manual_seed(1)
    model.add_adapter(
        "second",
        peft.LoraConfig(target_modules=LANGUAGE, r=2, use_dora=True, modules_to_save=["multi_modal_projector"]),
    )
    model.set_adapter("second")
    assert close(logits(model.eval(), inputs), before)  # a copy of the base's projector, not of the first adapter's
    trained(model, inputs, steps=5)
    second = logits(model, inputs)
    assert not close(first, second)
    of_second = save_adapter(model, tmp_path / "second.safetensors")
    model.set_adapter("default")
    assert torch.equal(logits(model, inputs), first)
    of_first = save_adapter(model, tmp_path / "first.safetensors")
    assert not torch.equal(of_first.tensors["fusion.gate"], of_second.tensors["fusion.gate"])
    with model.disable_adapter():
        assert close(logits(model, inputs), before)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(load(base), tmp_path).eval()
    again.load_adapter(tmp_path / "second", "second")
    assert torch.equal(logits(again, inputs), first)
    again.set_adapter("second")
    assert torch.equal(logits(again, inputs), second)
    again.delete_adapter("default")
    assert torch.equal(logits(again, inputs), second)


def test_a_face_adapter_goes_into_the_active_copy(root: Path, tmp_path: Path) -> None:
    base, inputs = switched_on("llava", root), batch("llava")
    model = trained(adapted(load(base), modules_to_save=["multi_modal_projector"]), inputs)
    expected = logits(model, inputs)
    save_adapter(model, tmp_path / "face.safetensors", with_projector=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.zero_()
    assert not close(logits(model, inputs), expected)
    load_adapter(model, tmp_path / "face.safetensors")
    assert torch.equal(logits(model, inputs), expected)
    with model.disable_adapter():
        assert close(logits(model, inputs), logits(load(base), inputs)), "the original was written to"


@pytest.mark.parametrize("family", ["llava", "llava_onevision"])
def test_the_branch_alone_without_lora(root: Path, tmp_path: Path, family: str) -> None:
    """PEFT wants a LoRA target (0.21.2); the face adapter is the form of "the branch, and nothing else"."""
    base, inputs = switched_on(family, root), batch(family)
    with pytest.raises(ValueError, match="No modules were targeted"):
        adapted(load(base), target_modules=[], modules_to_save=["multi_modal_projector"])
    model = load(base)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = FACE in name
    trained(model, inputs)
    save_adapter(model, tmp_path / "face.safetensors")
    other = load(base)
    load_adapter(other, tmp_path / "face.safetensors")
    assert torch.equal(logits(other, inputs), logits(model, inputs))
    done = apply_adapter(tmp_path / "face.safetensors", root / family, tmp_path / "applied")
    assert done.notes == [] and torch.equal(logits(load(tmp_path / "applied"), inputs), logits(model, inputs))


@pytest.mark.parametrize("use_dora", [False, True])
def test_gradient_checkpointing_changes_no_gradient(root: Path, use_dora: bool) -> None:
    base, inputs = switched_on("llava", root), batch("llava")
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)  # the branch starts fresh
        model = adapted(load(base), modules_to_save=["multi_modal_projector"], use_dora=use_dora)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
            assert model.is_gradient_checkpointing
        model.train()
        model(**inputs, face_attributes=some_attributes()).loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and any("face.fusion" in name for name in found[0])
    for name, grad in found[0].items():
        assert torch.allclose(found[1][name], grad, atol=1e-6), name


def four_bits(*skipped: str) -> Any:
    """QLoRA's configuration. The tiny tower's width is no multiple of the block of 64, so it is always skipped."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["model.vision_tower", *skipped],
    )  # fmt: skip


@pytest.mark.parametrize("checkpointing", [False, True])
def test_qlora_leaves_the_projector_in_full_precision(root: Path, tmp_path: Path, checkpointing: bool) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    base, inputs = switched_on("llava", root), batch("llava")

    def prepared() -> Any:
        model = load(
            base, dtype=torch.bfloat16, quantization_config=four_bits("model.multi_modal_projector", "lm_head")
        )
        return peft.prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=checkpointing, gradient_checkpointing_kwargs={"use_reentrant": False}
        )

    model = prepared()
    kinds = {n: type(m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert any(kind is bitsandbytes.nn.Linear4bit for name, kind in kinds.items() if "language_model" in name)
    assert {kind for name, kind in kinds.items() if "multi_modal_projector" in name} == {torch.nn.Linear}
    assert {p.dtype for n, p in model.named_parameters() if FACE in n} == {torch.float32}
    model = trained(adapted(model, modules_to_save=["multi_modal_projector"]), inputs)
    gates = [p for n, p in model.named_parameters() if n.endswith("default.face.fusion.gate")]
    assert gates and gates[0].abs().sum() > 0
    expected = logits(model, inputs)
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(prepared(), tmp_path / "adapter").eval()
    assert torch.allclose(logits(again, inputs), expected, atol=1e-2)
    live = save_adapter(model, tmp_path / "live.safetensors")
    files = save_adapter(tmp_path / "adapter", tmp_path / "files.safetensors", base=base)
    assert all(torch.equal(files.tensors[name], tensor) for name, tensor in live.tensors.items())


def test_a_quantised_projector_is_refused(root: Path, tmp_path: Path) -> None:
    """Before any weight is read, and so without bitsandbytes too."""
    eight_bits = transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["lm_head"])
    fresh = switched_on("llava", root)
    for source in (fresh, saved(fresh, tmp_path)):
        with pytest.raises(FaceHostError, match=r"llm_int8_skip_modules=\['model.multi_modal_projector'"):
            load(source, quantization_config=eight_bits)


@pytest.mark.skipif(transformers.__version__.startswith("4."), reason="5.x matches the names from their start")
def test_a_name_that_skips_nothing_is_noticed(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(FaceHostError, match=r"llm_int8_skip_modules=\['model.multi_modal_projector'"):
        load(saved(switched_on("llava", root), tmp_path), quantization_config=four_bits("x_multi_modal_projector"))


def saved(source: Path, out: Path) -> Path:
    """With face weights in its files."""
    load(source).save_pretrained(out / "saved")
    return out / "saved"
