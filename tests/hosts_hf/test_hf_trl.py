"""TRL's SFTTrainer over a face model: with the mixin no face loss is lost, without it a warning says so."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from llava_face_plugin.hosts.hf import FaceLlavaProcessor, FaceLossMixin

from .test_hf_training import Gradients, knowledge_gradients, samples, train, trained_model
from .tiny_hf import FACE, batch, load, switched_on

trl = pytest.importorskip("trl", reason="needs trl: pip install trl==1.16.0")
datasets = pytest.importorskip("datasets")

pytestmark = pytest.mark.contract


class FaceSFTTrainer(FaceLossMixin, trl.SFTTrainer):  # type: ignore[misc, name-defined]
    """What docs/transformers.md shows."""


def sft(
    cls: type, model: Any, root: Path, out: Path, accumulation: int = 1, steps: int = 1, **more: Any
) -> tuple[Any, Gradients]:
    """Trains on ``samples()`` with a collator that makes the whole batch."""
    pool, gradients = samples(), Gradients()
    options = trl.SFTConfig(
        str(out), max_steps=steps, per_device_train_batch_size=4 // accumulation, learning_rate=1e-3, max_grad_norm=0.0,
        gradient_accumulation_steps=accumulation, report_to=[], use_cpu=True, bf16=False, save_strategy="no",
        gradient_checkpointing=False, disable_tqdm=True, logging_steps=1, remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    trainer = cls(
        model=model, args=options,
        train_dataset=datasets.Dataset.from_list([{"index": i, "messages": []} for i in range(len(pool))]),
        data_collator=lambda rows: {key: torch.stack([pool[r["index"]][key] for r in rows]) for key in pool[0]},
        processing_class=FaceLlavaProcessor.from_pretrained(switched_on("llava", root)), callbacks=[gradients], **more,
    )  # fmt: skip
    trainer.train()
    return trainer, gradients


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_the_face_losses_reach_the_head_whatever_the_accumulation(
    root: Path, tmp_path: Path, accumulation: int
) -> None:
    _, expected = train(Trainer, trained_model(root), tmp_path / "plain")
    _, found = sft(FaceSFTTrainer, trained_model(root), root, tmp_path / "sft", accumulation)
    one, many = knowledge_gradients(expected), knowledge_gradients(found)
    assert one and one.keys() == many.keys()
    for name, grad in one.items():
        assert grad.abs().max() > 0 and torch.allclose(many[name], grad, rtol=1e-3, atol=1e-6), name


def test_the_parts_are_logged_and_every_face_parameter_moves(root: Path, tmp_path: Path) -> None:
    model = trained_model(root)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if FACE in name}
    trainer, _ = sft(FaceSFTTrainer, model, root, tmp_path, steps=2)
    assert [name for name, p in model.named_parameters() if FACE in name and torch.equal(p, before[name])] == []
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert logged["loss_bce"] > 0 and logged["loss_logic"] >= 0


def test_without_the_mixin_a_warning_says_what_is_lost(root: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no loss takes them up"):
        _, gradients = sft(trl.SFTTrainer, trained_model(root), root, tmp_path / "without")
    assert not any(grad.abs().sum() for grad in knowledge_gradients(gradients).values())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*no loss takes them up")
        sft(FaceSFTTrainer, trained_model(root), root, tmp_path / "with")


def test_lora_through_sft_saves_the_branch_with_the_adapter(root: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        target_modules=r".*language_model.*\.(q_proj|v_proj)", modules_to_save=["multi_modal_projector"], r=4
    )
    model = trained_model(root)
    before = {name.partition(FACE)[2]: p.detach().clone() for name, p in model.named_parameters() if FACE in name}
    trainer, _ = sft(FaceSFTTrainer, model, root, tmp_path, steps=2, peft_config=config)
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name or "multi_modal_projector.modules_to_save" in name for name in trained)
    moved = {name.partition(".face.")[2]: p for name, p in trained.items() if ".face." in name}
    assert moved.keys() == before.keys() and not any(torch.equal(p, before[name]) for name, p in moved.items())
    trainer.save_model(str(tmp_path / "adapter"))
    again = peft.PeftModel.from_pretrained(load(switched_on("llava", root)), tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = trainer.model.eval()(**batch("llava")).logits
        assert torch.allclose(again(**batch("llava")).logits, expected, atol=1e-5)
