"""Every face parameter learns, is saved, and comes back: upstream's own train_mem.py, in this process."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from llava_face_plugin.encoders.vit_weights import load_weights
from llava_face_plugin.hosts.llava.gate import unwrap
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.model_files import read_config
from tests.core.standin import watch_experts

from . import upstream
from .models import BOTH, COMBINATIONS, FACE, batch, load, switched_on, without_maps

pytestmark = pytest.mark.contract


STAGES = list(upstream.STEP_FLAGS)


@pytest.mark.parametrize(
    ("encoder", "fusion"), [*BOTH, ("vit-palette", "gated_add"), ("facial", "text-query"), ("facial", "soft-gate")]
)
@pytest.mark.parametrize("stage", STAGES)
def test_every_face_parameter_learns(
    base: Path, faces: Path, root: Path, stage: str, encoder: str, fusion: str
) -> None:
    source = switched_on(base, root / f"base-{encoder}-{fusion}", encoder, fusion)
    gradients: list[dict[str, float]] = []
    few: list[set[str]] = []  # experts that few patches chose, of the step that follows

    def record(trainer: Any, model: Any) -> None:
        norms = {}
        for name, parameter in unwrap(trainer.model).named_parameters():
            if FACE in name:
                assert parameter.requires_grad, name
                assert parameter.grad is not None, name
                norms[name] = parameter.grad.float().norm().item()
        gradients.append(norms)
        few.append(watch_experts(unwrap(trainer.model)))

    out = root / f"llava-{stage}-{encoder}-{fusion}-grad"
    upstream.train(upstream.flags(source, base / "clip", faces, out, stage, max_steps=3, seed=3), on_step=record)
    assert all(math.isfinite(v) for norms in gradients for v in norms.values())
    assert gradients[0], "no face parameter was found"
    silent = [name for name, norm in gradients[-1].items() if norm == 0.0]
    # The state for samples without a map learns only where a sample has none, an expert where patches have chosen it.
    assert [name for name in silent if not any(part in name for part in ("no_map", *few[-2]))] == []


@pytest.mark.parametrize(("encoder", "fusion"), COMBINATIONS)
def test_finetuned_weights_are_saved_and_reloaded(
    base: Path, faces: Path, root: Path, encoder: str, fusion: str
) -> None:
    source = switched_on(base, root / f"base-{encoder}-{fusion}", encoder, fusion)
    out = root / f"llava-ft-{encoder}-{fusion}"
    trainer = upstream.train(upstream.flags(source, base / "clip", faces, out))
    trained = trainer.model.eval()
    saved = read_config(out)
    assert saved["mm_projector_type"] == "face+mlp2x_gelu"
    assert saved["architectures"] == ["LlavaFaceLlamaForCausalLM"]
    again = load(out)
    ours = {n: p for n, p in trained.named_parameters() if FACE in n}
    theirs = dict(again.named_parameters())
    assert ours and all(torch.equal(p, theirs[n]) for n, p in ours.items())
    for model in (trained, again):
        model.get_vision_tower().half().float()  # train.py rounds the tower to float16
    inputs = batch(trained)
    with torch.no_grad():
        # An expert with a single patch is a matrix-vector product, which rounds by where its weight lies in memory.
        atol = 1e-6 if fusion == "moe/grouped" else 0.0
        assert torch.allclose(trained(**inputs).logits, again(**inputs).logits, rtol=0, atol=atol)
        probabilities = again.attribute_probabilities(inputs["images"])
    assert probabilities.shape == (3, 20) and bool(((probabilities >= 0) & (probabilities <= 1)).all())


@pytest.mark.parametrize(("encoder", "fusion"), [("part-embedding", "gated_add"), ("facial", "moe")])
def test_lora_merged_equals_unmerged(base: Path, faces: Path, root: Path, encoder: str, fusion: str) -> None:
    from llava.model.builder import load_pretrained_model

    source = switched_on(base, root / f"base-{encoder}-{fusion}", encoder, fusion)
    out = root / f"llava-lora-merged-{encoder}"
    trainer = upstream.train(upstream.flags(source, base / "clip", faces, out, "lora"))
    _, merged, processor, _ = load_pretrained_model(str(out), str(source), out.name, device="cpu", device_map=None)
    trained = unwrap(trainer.model)
    theirs = dict(merged.named_parameters())
    for name, parameter in trained.named_parameters():
        if FACE in name:
            assert torch.equal(parameter.half(), theirs[name]), name
    merged = merged.float().eval()
    trained.get_vision_tower().float()
    merged.get_vision_tower().float()
    inputs = batch(trained)
    with torch.no_grad():
        expected, found = trained.eval()(**inputs).logits, merged(**inputs).logits
    # Loading rounds every weight to float16, as upstream always does.
    assert torch.allclose(expected, found, atol=5e-3)
    assert processor.image_mean is not None  # the wrapped processor answers for the plain one


@pytest.mark.parametrize(("encoder", "fusion"), BOTH)
def test_stage_1_adapter_carries_the_branch_into_finetune(
    base: Path, faces: Path, root: Path, encoder: str, fusion: str
) -> None:
    source = switched_on(base, root / f"base-{encoder}-{fusion}", encoder, fusion)
    first = root / f"llava-stage1-{fusion}"
    upstream.train(upstream.flags(source, base / "clip", faces, first, "stage1"))
    adapter = torch.load(first / "mm_projector.bin", weights_only=True)
    assert any(FACE in name for name in adapter)
    second = root / f"llava-stage2-{fusion}"
    trainer = upstream.train(
        upstream.flags(
            source, base / "clip", faces, second, max_steps=1, learning_rate=0.0,
            pretrain_mm_mlp_adapter=first / "mm_projector.bin",
        )
    )  # fmt: skip
    trained = dict(unwrap(trainer.model).named_parameters())
    for name, value in adapter.items():
        assert torch.equal(value, trained[name]), name


@pytest.mark.parametrize("kind", ["finetune", "lora"])
def test_a_trained_encoder_starts_from_its_path(base: Path, faces: Path, root: Path, kind: str) -> None:
    """From a language model upstream builds the projector after loading, where nothing else would read the path."""
    source = switched_on(base, root / "base-facial-trained", "facial-trained", "moe")
    out = root / f"llava-trained-encoder-{kind}"
    trainer = upstream.train(upstream.flags(source, base / "clip", faces, out, kind, max_steps=1, learning_rate=0.0))
    branch = unwrap(trainer.model).get_model().mm_projector.face
    for name, value in load_weights(branch.config.facial).items():
        found = branch.facial.vit.state_dict()[name]
        assert torch.allclose(found, value, atol=1e-3), name  # LoRA's --mm_projector_lr moves it a step


def test_a_plain_adapter_loads_into_face_mode(base: Path, faces: Path, root: Path) -> None:
    plain = root / "llava-plain-stage1"
    upstream.train(upstream.flags(base, base / "clip", faces, plain, "stage1"))
    adapter = torch.load(plain / "mm_projector.bin", weights_only=True)
    trainer = upstream.train(
        upstream.flags(
            switched_on(base, root / "base-light"), base / "clip", faces, root / "llava-on-plain", max_steps=1,
            learning_rate=0.0, pretrain_mm_mlp_adapter=plain / "mm_projector.bin",
        )
    )  # fmt: skip
    trained = dict(unwrap(trainer.model).named_parameters())
    for name, value in adapter.items():
        assert torch.equal(value, trained[name]), name


@pytest.mark.parametrize(
    ("encoder", "fusion", "more"),
    [
        ("part-embedding", "gated_add", {}),
        ("facial-trained", "moe/grouped", {"balance": 0.01, "router_z": 0.1}),
    ],
)
def test_loss_parts_do_not_change_with_accumulation(
    base: Path, faces: Path, root: Path, encoder: str, fusion: str, more: dict[str, float]
) -> None:
    """``more``: the fusion's own parts, with their weights."""
    source = switched_on(base, root / f"base-{encoder}-{fusion}", encoder, fusion)
    found = {}
    for steps in (1, 2, 4):
        out = root / f"llava-accumulation-{encoder}-{steps}"
        upstream.train(
            upstream.flags(
                source, base / "clip", faces, out, max_steps=1, seed=5, group_by_modality_length=False,
                per_device_train_batch_size=8 // steps, gradient_accumulation_steps=steps,
            )
        )  # fmt: skip
        found[steps] = upstream.logs(out)[0]
    for steps in (2, 4):
        for part in ("bce", "logic", *more):
            assert found[steps][f"loss_{part}"] == pytest.approx(found[1][f"loss_{part}"], abs=2e-4), (steps, part)
        # Upstream averages L_lm over the tokens of each micro-batch; the sum must still be its parts.
        weights = {"lm": 1.0, "bce": 1.0, "logic": 1.0, **more}
        parts = sum(weight * found[steps][f"loss_{part}"] for part, weight in weights.items())
        assert float(found[steps]["loss"]) == pytest.approx(parts, abs=2e-3)
    assert found[1]["loss_bce"] > 0 and all(found[1][f"loss_{part}"] > 0 for part in more)


@pytest.mark.parametrize(("encoder", "fusion"), BOTH)
@pytest.mark.parametrize("kind", ["text_only", "no_labels"])
def test_batches_without_labels_are_finite_and_connected(
    checkpoint: Path, root: Path, kind: str, encoder: str, fusion: str
) -> None:
    model = load(switched_on(checkpoint, root / f"llava-{encoder}-{fusion}", encoder, fusion)).train()
    inputs = batch(model)
    if kind == "text_only":
        from llava.constants import IMAGE_TOKEN_INDEX

        inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE_TOKEN_INDEX, 7)
        inputs["images"] = torch.zeros_like(inputs["images"])
        inputs["images"][:, 3] = NO_MAP
    attributes = torch.full((3, 20), -1, dtype=torch.int8)
    output = model(**inputs, face_attributes=attributes)
    parts = {name: value.item() for name, value in model.pop_loss_parts().items()}
    # The gates are closed: L_lm, and the balance of the experts, which needs no label.
    expected = load(checkpoint)(**without_maps(inputs)).loss.item() + 0.01 * parts.get("loss_balance", 0.0)
    assert output.loss.item() == pytest.approx(expected, abs=1e-6)
    output.loss.backward()
    for name, parameter in model.named_parameters():
        if FACE in name:
            assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
    assert parts["loss_bce"] == 0.0 and parts["loss_logic"] == 0.0
