"""Trainer, accumulation, trainers that go past the model's loss, and PEFT."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments

from llava_face_plugin.hosts.hf import FaceLossMixin

from .tiny_hf import FACE, FAMILIES, batch, load, open_gates, some_attributes, switched_on

pytestmark = pytest.mark.contract


def samples(family: str = "llava", attributes: bool = True) -> list[dict[str, torch.Tensor]]:
    """Four samples of equal length, every attribute known: parts of a batch then weigh the same."""
    out = []
    for seed in (0, 1):
        inputs = batch(family, seed=seed)
        for row in (0, 1):
            out.append({key: value[row] for key, value in inputs.items()})
            if attributes:
                out[-1]["face_attributes"] = torch.randint(
                    0, 2, (20,), generator=torch.Generator().manual_seed(10 * seed + row), dtype=torch.int8
                )
    return out


class Gradients(TrainerCallback):
    """Keeps the face gradients of each optimizer step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        named = model.named_parameters()
        self.steps.append({n: p.grad.clone() for n, p in named if FACE in n and p.grad is not None})


class PastTheHead(Trainer):
    """As TRL's SFTTrainer: the backbone, and a loss of the trainer's own."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        hidden = model.model(**inputs).last_hidden_state
        reduction = "mean" if num_items_in_batch is None else "sum"
        loss = F.cross_entropy(
            model.lm_head(hidden)[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction=reduction
        )
        loss = loss if num_items_in_batch is None else loss / num_items_in_batch
        return (loss, None) if return_outputs else loss


class Mixed(FaceLossMixin, PastTheHead):
    pass


class Logging(FaceLossMixin, Trainer):
    pass


def train(
    cls: type[Trainer], model: Any, out: Path, steps: int = 1, accumulation: int = 1, takes_kwargs: bool = False,
    data: list[dict[str, torch.Tensor]] | None = None, **options: Any,
) -> tuple[Trainer, Gradients]:  # fmt: skip
    gradients = Gradients()
    arguments = TrainingArguments(
        str(out), max_steps=steps, per_device_train_batch_size=4 // accumulation, learning_rate=1e-3, max_grad_norm=0.0,
        gradient_accumulation_steps=accumulation, logging_steps=1, save_strategy="no", report_to=[], use_cpu=True,
        disable_tqdm=True, **options,
    )  # fmt: skip
    trainer = cls(model=model, args=arguments, train_dataset=data or samples(), callbacks=[gradients])
    if takes_kwargs:
        trainer.model_accepts_loss_kwargs = True
    trainer.train()
    return trainer, gradients


def knowledge_gradients(gradients: Gradients) -> dict[str, torch.Tensor]:
    return {name: grad for name, grad in gradients.steps[0].items() if ".knowledge." in name}


def trained_model(root: Path) -> Any:
    model = load(switched_on("llava", root))
    open_gates(model)
    return model


@pytest.mark.parametrize("accumulation", [2, 4])
@pytest.mark.parametrize("kind", ["trainer", "past the head", "past the head, not divided"])
def test_accumulation_does_not_change_the_knowledge_losses(
    root: Path, tmp_path: Path, accumulation: int, kind: str
) -> None:
    _, expected = train(Trainer, trained_model(root), tmp_path / "1")
    cls = Trainer if kind == "trainer" else Mixed
    takes = kind.endswith("not divided")
    _, found = train(cls, trained_model(root), tmp_path / "n", accumulation=accumulation, takes_kwargs=takes)
    one, many = knowledge_gradients(expected), knowledge_gradients(found)
    assert one and one.keys() == many.keys()
    for name, grad in one.items():
        assert torch.allclose(many[name], grad, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("kind", ["trainer", "past the head"])
def test_accumulation_does_not_change_the_experts_losses(root: Path, tmp_path: Path, kind: str) -> None:
    def model() -> Any:
        made = load(switched_on("llava", root, "facial-trained", "moe/grouped"))
        open_gates(made)
        return made

    cls = Logging if kind == "trainer" else Mixed
    whole, expected = train(cls, model(), tmp_path / "1")
    cut, found = train(cls, model(), tmp_path / "4", accumulation=4)
    logged = [next(entry for entry in trainer.state.log_history if "loss" in entry) for trainer in (whole, cut)]
    for part in ("loss", "loss_balance", "loss_router_z", "loss_bce"):
        assert logged[1][part] == pytest.approx(logged[0][part], abs=1e-3) and logged[0][part] > 0, part
    assert any(".router." in name for name in expected.steps[0])
    for name, grad in expected.steps[0].items():
        assert torch.allclose(found.steps[0][name], grad, rtol=1e-3, atol=1e-5), name


def test_labels_that_no_loss_takes_up_are_warned_of(root: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no loss takes them up"):
        _, gradients = train(PastTheHead, trained_model(root), tmp_path)
    assert not knowledge_gradients(gradients)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*no loss takes them up")
        train(Mixed, trained_model(root), tmp_path)
        train(Trainer, trained_model(root), tmp_path)
        train(PastTheHead, trained_model(root), tmp_path, data=samples(attributes=False))


def test_a_balance_loss_that_no_loss_takes_up_is_warned_of(root: Path, tmp_path: Path) -> None:
    """With label smoothing Trainer takes the labels away from the model and computes L_lm itself."""
    data = samples(attributes=False)
    model = load(switched_on("llava", root, "facial", "moe"))
    with pytest.warns(UserWarning, match="no loss takes them up"):
        train(Trainer, model, tmp_path / "plain", data=data, label_smoothing_factor=0.1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*no loss takes them up")
        train(Logging, model, tmp_path / "mixed", data=data, label_smoothing_factor=0.1)


def test_the_mixin_adds_nothing_twice_and_logs_the_parts(root: Path, tmp_path: Path) -> None:
    _, expected = train(Trainer, trained_model(root), tmp_path / "plain")
    trainer, found = train(Logging, trained_model(root), tmp_path / "mixed")
    for name, grad in expected.steps[0].items():
        assert torch.equal(found.steps[0][name], grad), name
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert logged["loss_bce"] > 0 and logged["loss_logic"] >= 0
    model, inputs = trained_model(root).train(), {k: torch.stack([s[k] for s in samples()]) for k in samples()[0]}
    attributes = inputs.pop("face_attributes")
    lm = model(**inputs).loss.item()  # no labels of attributes: L_lm alone
    total = lm + logged["loss_bce"] + logged["loss_logic"]
    assert logged["loss"] == pytest.approx(total, abs=2e-3)
    assert model(**inputs, face_attributes=attributes).loss.item() == pytest.approx(total, abs=2e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_trainer_saves_what_loads_again(root: Path, tmp_path: Path, family: str) -> None:
    row = {key: value[0] for key, value in batch(family).items()}
    data = [{**row, "face_attributes": some_attributes()[0]}] * 4
    model = load(switched_on(family, root))
    trainer, _ = train(Trainer, model, tmp_path, steps=2, data=data)
    trainer.save_model(str(tmp_path / "out"))
    again = load(tmp_path / "out")
    with torch.no_grad():
        assert torch.equal(again(**batch(family)).logits, model.eval()(**batch(family)).logits)
    assert again.model.multi_modal_projector.face.fusion.gate.abs().sum() > 0


def test_evaluation_gives_losses_and_logits(root: Path, tmp_path: Path) -> None:
    trainer, _ = train(Trainer, trained_model(root), tmp_path)
    found = trainer.predict(samples())
    assert found.metrics["test_loss"] > 0
    logits = found.predictions[0] if isinstance(found.predictions, tuple) else found.predictions
    assert logits.shape[:2] == (4, 24)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_with_the_projector_saved(root: Path, tmp_path: Path, family: str) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        target_modules=r".*language_model.*\.(q_proj|v_proj)", modules_to_save=["multi_modal_projector"], r=4
    )
    model = peft.get_peft_model(load(switched_on(family, root)), config)
    row = {key: value[0] for key, value in batch(family).items()}
    data = [{**row, "face_attributes": some_attributes()[0]}] * 4
    train(Trainer, model, tmp_path, steps=3, data=data, remove_unused_columns=False)
    model.eval().save_pretrained(tmp_path / "adapter")
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all("lora_" in name or "multi_modal_projector.modules_to_save" in name for name in names)
    with torch.no_grad():
        trained = model(**batch(family)).logits
        again = peft.PeftModel.from_pretrained(load(switched_on(family, root)), tmp_path / "adapter").eval()
        assert torch.equal(again(**batch(family)).logits, trained)
        again.merge_adapter()
        assert torch.allclose(again(**batch(family)).logits, trained, atol=1e-5)
        again.unmerge_adapter()
        assert torch.allclose(again(**batch(family)).logits, trained, atol=1e-5)
        merged = again.merge_and_unload()
        assert torch.allclose(merged(**batch(family)).logits, trained, atol=1e-5)
        merged.save_pretrained(tmp_path / "merged")
        assert torch.allclose(load(tmp_path / "merged")(**batch(family)).logits, trained, atol=1e-5)
        with model.disable_adapter():
            base = load(switched_on(family, root))(**batch(family)).logits
            assert torch.allclose(model(**batch(family)).logits, base, atol=1e-5)
