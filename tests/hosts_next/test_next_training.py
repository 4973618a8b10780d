"""Every face parameter learns, is saved, and comes back: LLaVA-NeXT's own train_mem.py, in this process."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.hosts.llava.gate import unwrap
from llava_face_plugin.labels import NO_MAP
from tests.core.standin import watch_experts
from tests.hosts_next import next_models, next_run
from tests.hosts_next.conftest import Assets
from tests.hosts_next.next_models import FACE

pytestmark = pytest.mark.contract

EXACT = {"bf16": False, "mm_tunable_parts": "mm_mlp_adapter,mm_language_model"}
"""In float32. Without --bf16 upstream casts the tower to float16 (train.py:1577): then it must not be trained."""


def base(assets: Assets, lm: str = "qwen", encoder: str = "part-embedding", fusion: str = "gated_add") -> Path:
    """The language model with face mode on, before any training."""
    out = assets.root / next_models.named("face", lm, encoder, fusion)
    return next_models.switched_on(getattr(assets, lm), out, encoder=encoder, fusion=fusion)


def train(
    assets: Assets, source: Path, out: str, stage: str = "finetune", data: str = "mixed", vision: str = "clip",
    on_step: Callable[[Any], None] | None = None, seed: int = 0, **other: Any,
) -> tuple[Any, Path]:  # fmt: skip
    """(upstream's trainer, output folder) of a run in this process; ``on_step(face model)`` after each backward."""
    from llava.train.llava_trainer import LLaVATrainer

    plain_step = LLaVATrainer.training_step

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = plain_step(self, *args, **kwargs)
        if on_step is not None:
            on_step(unwrap(self.model))
        return loss

    folder = assets.root / out
    file = assets.data / f"{'plain' if stage == 'stage1' else data}.json"
    with next_models.hub(assets), mock.patch.object(LLaVATrainer, "training_step", training_step):
        tower = next_models.tower(assets, vision)
        trainer = next_models.run(next_run.flags(source, tower, file, folder, stage, **other), seed)
    return trainer, folder


def logits(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**{**inputs, "labels": None}).logits
    return found


def face_weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if FACE in name}


@pytest.mark.parametrize(
    ("stage", "lm", "encoder", "fusion"),
    [
        ("finetune", "qwen", "part-embedding", "gated_add"),
        ("finetune", "vicuna", "vit-palette", "gated_add"),
        ("finetune", "qwen", "part-embedding & facial-trained", "moe"),
        ("finetune", "vicuna", "facial", "text-query"),
        ("stage1", "qwen", "vit-palette", "gated_add"),
        ("stage1", "vicuna", "part-embedding", "gated_add"),
        ("stage1", "vicuna", "facial", "moe/grouped"),
        ("lora", "qwen", "part-embedding", "gated_add"),
        ("lora", "vicuna", "vit-palette", "gated_add"),
        ("lora", "qwen", "facial-trained", "soft-gate"),
    ],
)
def test_every_face_parameter_learns(assets: Assets, stage: str, lm: str, encoder: str, fusion: str) -> None:
    gradients: list[dict[str, float]] = []
    few: list[set[str]] = []  # experts that few patches chose, of the step that follows

    def record(model: Any) -> None:
        for name, parameter in face_weights(model).items():
            assert parameter.requires_grad and parameter.grad is not None, name
        gradients.append({name: p.grad.float().norm().item() for name, p in face_weights(model).items()})
        few.append(watch_experts(model))

    out = next_models.named("llava", stage, lm, encoder, fusion, "grad")
    all_samples = {"per_device_train_batch_size": 8, "max_steps": 2}
    train(assets, base(assets, lm, encoder, fusion), out, stage, on_step=record, **all_samples)
    assert gradients[-1] and all(math.isfinite(norm) for norms in gradients for norm in norms.values())
    # The state for samples without a map learns only where a sample has none, an expert where patches have chosen it.
    silent = [name for name, norm in gradients[-1].items() if norm == 0.0]
    assert [name for name in silent if not any(part in name for part in ("no_map", *few[-2]))] == []


@pytest.mark.parametrize(
    ("lm", "encoder", "fusion", "data"),
    [
        ("qwen", "part-embedding", "gated_add", "mixed"),
        ("qwen", "vit-palette", "channel", "video"),
        ("vicuna", "part-embedding", "channel", "multi_image"),
        ("qwen", "part-embedding & facial-trained", "moe", "mixed"),
        ("vicuna", "facial", "text-query", "multi_image"),
    ],
)
def test_finetuned_weights_are_saved_and_reloaded(
    assets: Assets, lm: str, encoder: str, fusion: str, data: str
) -> None:
    source = base(assets, lm, encoder, fusion)
    trainer, out = train(assets, source, next_models.named("llava-ft", lm, encoder, fusion), data=data, **EXACT)
    trained = trainer.model.eval()
    saved = next_models.config(out)
    assert saved["mm_projector_type"] == "face+mlp2x_gelu"
    assert saved["architectures"] == [f"LlavaFace{'Qwen' if lm == 'qwen' else 'Llama'}ForCausalLM"]
    tokenizer, again, processor = next_models.load(out, assets)
    theirs = face_weights(again)
    assert theirs and all(torch.equal(p.half(), theirs[n].half()) for n, p in face_weights(trained).items())
    next_models.as_loaded(trained, tokenizer)
    for inputs in next_models.face_batches(trained, tokenizer, processor, assets.data / f"{data}.json"):
        assert torch.equal(logits(trained, inputs), logits(again, inputs))


def test_siglip_trains_on_images_and_video(assets: Assets, tmp_path: Path) -> None:
    samples = json.loads((assets.data / "mixed.json").read_text())
    few = [sample for sample in samples if sample["id"] in ("image1", "video")]
    (assets.data / "few.json").write_text(json.dumps(few))
    seen: list[float] = []
    trainer, out = train(
        assets, base(assets, encoder="vit-palette"), "llava-qwen-siglip", data="few", vision="siglip",
        on_step=lambda model: seen.append(model.get_model().mm_projector.face.fusion.gate.grad.norm().item()),
        max_steps=1, frames_upbound=2, **EXACT,
    )  # fmt: skip
    assert trainer.state.log_history[0]["loss_bce"] > 0 and seen[0] > 0
    tokenizer, again, processor = next_models.load(out, assets)
    inputs = next_models.batch(
        again, tokenizer, processor, assets.data / "few.json", image_grid_pinpoints=[[384, 768], [768, 384]],
        frames_upbound=2,
    )  # fmt: skip
    assert [tuple(image.shape) for image in inputs["images"]] == [(3, 4, 384, 384), (2, 4, 384, 384)]
    trained = next_models.as_loaded(trainer.model, tokenizer)
    assert torch.equal(logits(trained, inputs), logits(again, inputs))


@pytest.mark.parametrize(
    ("lm", "encoder", "fusion"),
    [("qwen", "part-embedding", "gated_add"), ("vicuna", "part-embedding", "gated_add"), ("qwen", "facial", "moe")],
)
def test_lora_is_merged_by_upstreams_loader(assets: Assets, lm: str, encoder: str, fusion: str) -> None:
    """Upstream takes every LoRA that is no Mistral for a Llama's (builder.py:85): face mode loads a Qwen2's as one."""
    from llava.model.builder import load_pretrained_model

    # From a LLaVA checkpoint, for upstream's LoRA does not save image_newline.
    on = assets.root / next_models.named("llava-on", lm, encoder, fusion, "checkpoint")
    source = next_models.switched_on(next_models.plain(assets, lm), on, encoder=encoder, fusion=fusion)
    trainer, out = train(assets, source, next_models.named("llava", lm, encoder, "lora"), "lora")
    trained = unwrap(trainer.model).eval()
    tokenizer, merged, processor, _ = load_pretrained_model(
        str(out), str(source), out.name, device_map="auto", attn_implementation="sdpa"
    )
    assert type(merged).__name__ == type(trained).__name__
    theirs = face_weights(merged)
    assert theirs and all(torch.equal(p.half(), theirs[n].half()) for n, p in face_weights(trained).items())
    merged = merged.float().eval()
    next_models.as_loaded(trained, tokenizer)
    inputs = next_models.batch(trained, tokenizer, processor, assets.data / "mixed.json")
    # Rounded to float16 before the adapter is merged, and after it.
    assert torch.allclose(logits(trained, inputs), logits(merged, inputs), atol=5e-3)


def test_a_lora_of_a_plain_language_model_gets_its_tower(assets: Assets, caplog: Any) -> None:
    """Upstream's loader leaves tower and image_newline uninitialised there: neither is in the base or the LoRA."""
    from llava.model.builder import load_pretrained_model
    from transformers import CLIPVisionModel

    source = base(assets)
    _, out = train(assets, source, "llava-qwen-lora-of-base", "lora", data="images", max_steps=1)
    _, merged, _, _ = load_pretrained_model(
        str(out), str(source), out.name, device_map="auto", attn_implementation="sdpa"
    )
    own = merged.get_vision_tower().vision_tower.state_dict()
    clip = CLIPVisionModel.from_pretrained(str(assets.clip)).state_dict()
    assert all(torch.equal(own[name], value.to(own[name])) for name, value in clip.items())
    assert "no image_newline" in caplog.text and not bool(merged.get_model().image_newline.any())


@pytest.mark.parametrize(("encoder", "fusion"), [("part-embedding", "gated_add"), ("facial-trained", "moe")])
def test_stage_1_carries_the_branch_into_stage_2(assets: Assets, encoder: str, fusion: str) -> None:
    source = base(assets, "qwen", encoder, fusion)
    _, first = train(assets, source, f"llava-qwen-{encoder}-stage1", "stage1")
    adapter = torch.load(first / "mm_projector.bin", weights_only=True)
    assert any(FACE in name for name in adapter)
    assert next_models.config(first)["mm_projector_type"] == "face+mlp2x_gelu"
    trainer, second = train(
        assets, source, f"llava-qwen-{encoder}-stage2", max_steps=1, learning_rate=0.0, **EXACT,
        pretrain_mm_mlp_adapter=first / "mm_projector.bin",
    )  # fmt: skip
    trained = dict(trainer.model.named_parameters())
    for name, value in adapter.items():
        assert torch.equal(value.float(), trained[name].float()), name
    # ... and a third stage goes on from the saved checkpoint, as finetune_onevision.sh does.
    again, _ = train(assets, second, f"llava-qwen-{encoder}-stage3", max_steps=1, learning_rate=0.0, **EXACT)
    for name, value in face_weights(trainer.model).items():
        assert torch.equal(value, face_weights(again.model)[name]), name


def test_a_plain_adapter_and_a_plain_checkpoint_load_into_face_mode(assets: Assets) -> None:
    _, first = train(assets, assets.qwen, "llava-qwen-plain-stage1", "stage1")
    adapter = torch.load(first / "mm_projector.bin", weights_only=True)
    trainer, _ = train(
        assets, base(assets), "llava-qwen-on-plain", max_steps=1, learning_rate=0.0, **EXACT,
        pretrain_mm_mlp_adapter=first / "mm_projector.bin",
    )  # fmt: skip
    trained = dict(unwrap(trainer.model).named_parameters())
    assert adapter and all(torch.equal(value.float(), trained[name].float()) for name, value in adapter.items())
    on = next_models.switched_on(next_models.plain(assets), assets.root / "llava-on-qwen-checkpoint")
    trainer, _ = train(assets, on, "llava-qwen-continued", max_steps=1)
    assert trainer.state.log_history[0]["loss_bce"] > 0


def test_loss_parts_and_gradients_do_not_change_with_accumulation(assets: Assets) -> None:
    """Samples with as many labels each: three images and a video. The head learns from L_bce and L_c alone."""
    samples = json.loads((assets.data / "mixed.json").read_text())
    labelled = [s for s in samples if s["id"] in ("image0", "image1", "image2", "video")]
    (assets.data / "labelled.json").write_text(json.dumps(labelled))
    found: dict[int, dict[str, float]] = {}
    gradients: dict[int, dict[str, torch.Tensor]] = {}
    for steps in (1, 2, 4):

        def keep(model: Any, steps: int = steps) -> None:
            gradients[steps] = {n: p.grad.clone() for n, p in face_weights(model).items() if ".knowledge." in n}

        trainer, _ = train(
            assets, base(assets), f"llava-qwen-accumulation-{steps}", data="labelled", on_step=keep, max_steps=1,
            group_by_modality_length=False, per_device_train_batch_size=4 // steps, **EXACT, max_grad_norm=0.0,
            gradient_accumulation_steps=steps, gradient_checkpointing=False, learning_rate=0.0,
        )  # fmt: skip
        found[steps] = trainer.state.log_history[0]
    assert found[1]["loss_bce"] > 0
    for steps in (2, 4):
        for part in ("loss_bce", "loss_logic"):
            assert found[steps][part] == pytest.approx(found[1][part], abs=2e-4), (steps, part)
        parts = sum(found[steps][part] for part in ("loss_lm", "loss_bce", "loss_logic"))
        assert found[steps]["loss"] == pytest.approx(parts, abs=2e-3)
        for name, gradient in gradients[1].items():
            assert torch.allclose(gradients[steps][name], gradient, rtol=1e-3, atol=1e-6), (steps, name)


@pytest.mark.parametrize(
    ("encoder", "fusion"), [("part-embedding", "gated_add"), ("part-embedding & facial-trained", "moe")]
)
@pytest.mark.parametrize("kind", ["text", "no_labels", "no_maps"])
def test_batches_that_lack_something_are_finite_and_connected(
    assets: Assets, kind: str, encoder: str, fusion: str
) -> None:
    path = next_models.plain(assets)
    on = assets.root / next_models.named("llava-on-qwen", encoder, fusion, "checkpoint")
    tokenizer, model, processor = next_models.load(
        next_models.switched_on(path, on, encoder=encoder, fusion=fusion), assets
    )
    data = "text" if kind == "text" else "mixed"
    inputs = next_models.batch(model.train(), tokenizer, processor, assets.data / f"{data}.json")
    if kind != "no_maps":
        inputs["face_attributes"] = torch.full_like(inputs["face_attributes"], -1)
    for image in inputs["images"] if kind == "no_maps" else ():
        image[..., 3, :, :] = NO_MAP
    output = model(**inputs)
    output.loss.backward()
    for name, parameter in face_weights(model).items():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
    if kind != "no_maps":  # gates are closed, and nothing is known: L_lm, and the balance of the experts
        parts = {name: value.item() for name, value in model.pop_loss_parts().items()}
        assert parts["loss_bce"] == 0.0 and parts["loss_logic"] == 0.0
        expected = next_models.load_model(path, assets)(**next_models.plain_inputs(inputs)).loss.item()
        assert output.loss.item() == pytest.approx(expected + 0.01 * parts.get("loss_balance", 0.0), abs=1e-6)


def test_data_may_be_a_yaml_list_of_files(assets: Assets, tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    entries = "".join(
        f"  - json_path: {assets.data}/{name}.json\n    sampling_strategy: {how}\n"
        for name, how in (("images", "first:2"), ("video", "all"))
    )
    path.write_text(f"datasets:\n{entries}")
    trainer, _ = train(
        assets, base(assets), "llava-qwen-yaml", max_steps=1, data_path=path, dataloader_num_workers=2
    )  # fmt: skip
    assert len(trainer.train_dataset) == 4
    assert trainer.state.log_history[0]["loss_bce"] > 0


def test_dpo_is_refused_with_knowledge(assets: Assets) -> None:
    on = next_models.switched_on(next_models.plain(assets), assets.root / "llava-on-qwen-checkpoint")
    tokenizer, model, processor = next_models.load(on, assets)
    inputs = next_models.batch(model, tokenizer, processor, assets.data / "images.json")
    with pytest.raises(FaceHostError, match="DPO"):
        model(**inputs, dpo_forward=True)
