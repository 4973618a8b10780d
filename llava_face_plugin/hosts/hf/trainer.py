"""``FaceLossMixin``: for trainers that go past the model's own loss; also shows each loss part, and resumes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .backbone import FaceBackbone, FaceFromPretrained, take_loss

PARTS = ("bce", "logic", "balance", "router_z")
"""Every loss part that face mode may have, in one order on every rank."""


class FaceLossMixin:
    """``class MyTrainer(FaceLossMixin, SFTTrainer)``.

    TRL's SFTTrainer calls the backbone and computes L_lm itself: the face losses would be lost, and a fusion that reads
    the prompt would not know where the answers begin. With transformers'
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
        with backbone.listen() as outputs, backbone.supervised(inputs.get("labels")):
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
        recorded = self.__dict__.setdefault("_face_parts", [])
        for losses in parts:
            values = [losses[name].detach().float() if name in losses else None for name in PARTS]
            zero = torch.zeros((), device=next(value for value in values if value is not None).device)
            there = [torch.stack([zero, zero]) if v is None else torch.stack([v, zero + 1]) for v in values]
            recorded.append(torch.stack(there))  # (parts, 2): the value, and whether there is one

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As the trainer's, with the mean of each part."""
        if "loss" in logs:
            # On every rank, also on one that has seen no image since the last log: the others wait for it here.
            none = torch.zeros(1, len(PARTS), 2, device=self.args.device)  # type: ignore[attr-defined]
            rows = [none, *(part[None].to(none) for part in self.__dict__.pop("_face_parts", []))]
            gathered = self.accelerator.gather(torch.cat(rows).sum(dim=0, keepdim=True))  # type: ignore[attr-defined]
            means = {
                f"loss_{name}": round(total / count, 4)
                for name, (total, count) in zip(PARTS, gathered.sum(dim=0).tolist(), strict=True)
                if count
            }
            logs = {**logs, **means}
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """As the trainer's, with the checkpoint's weights.

        A Llava's are saved under the hub's names, and transformers (4.57 to 5.23, its issue 43701) does not find them
        here: it warns, and goes on with those of the start. ZeRO, FSDP and PEFT have files of their own.
        """
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        whole = self.model  # type: ignore[attr-defined]
        if not isinstance(whole, FaceFromPretrained) or self.is_fsdp_enabled:  # type: ignore[attr-defined]
            return
        dtype = next(whole.parameters()).dtype  # type: ignore[attr-defined]
        saved = type(whole).from_pretrained(resume_from_checkpoint, dtype=dtype)
        whole.load_state_dict(saved.state_dict())  # type: ignore[attr-defined]
