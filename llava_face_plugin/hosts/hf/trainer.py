"""``FaceLossMixin``: for trainers that go past the model's own loss, and to see each loss part in the log."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .backbone import FaceBackbone, take_loss


class FaceLossMixin:
    """``class MyTrainer(FaceLossMixin, SFTTrainer)``.

    TRL's SFTTrainer calls the backbone and computes L_lm itself: the face losses would be lost. With transformers'
    own Trainer the model adds them; the mixin then only logs ``loss_bce`` and ``loss_logic``, means since the last log.
    """

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """As the trainer's, plus the face losses if nothing has added them yet."""
        backbone = next((m for m in self.model.modules() if isinstance(m, FaceBackbone)), None)  # type: ignore[attr-defined]
        arguments = {"return_outputs": return_outputs, "num_items_in_batch": num_items_in_batch}
        if backbone is None:
            return super().compute_loss(model, inputs, **arguments)  # type: ignore[misc]
        with backbone.listen() as outputs:
            result = super().compute_loss(model, inputs, **arguments)  # type: ignore[misc]
        if model.training:
            self._record([output.face_losses for output in outputs if output.face_losses])
        face_loss = take_loss(outputs)
        if face_loss is None:
            return result
        loss, output = result if return_outputs else (result, None)
        loss = loss + face_loss.to(loss) / self._undivided_steps(model, num_items_in_batch)
        return (loss, output) if return_outputs else loss

    def _undivided_steps(self, model: Any, num_items_in_batch: Any) -> int:
        """By how much the trainer will not divide the loss, though the batch is that part of a step."""
        divides = (
            not self.model_accepts_loss_kwargs or num_items_in_batch is None  # type: ignore[attr-defined]
        ) and self.compute_loss_func is None  # type: ignore[attr-defined]
        return 1 if divides or not model.training else self.current_gradient_accumulation_steps  # type: ignore[attr-defined]

    def _record(self, parts: list[dict[str, Tensor]]) -> None:
        recorded = self.__dict__.setdefault("_face_parts", {})
        for losses in parts:
            for name, value in losses.items():
                recorded.setdefault(f"loss_{name}", []).append(value.detach().float())

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As the trainer's, with the mean of each part."""
        parts = self.__dict__.pop("_face_parts", {}) if "loss" in logs else {}
        means = {name: sum(values) / len(values) for name, values in parts.items()}
        gather = self.accelerator.gather  # type: ignore[attr-defined]
        logs = {**logs, **{name: round(gather(value).mean().item(), 4) for name, value in means.items()}}
        super().log(logs, *args, **kwargs)  # type: ignore[misc]
