"""One rank: ``scripts/recipes/train_hf.py`` as it is, but in the order of its data. Says what this rank ends with.

``$RECORD/rank0.pt`` and so on hold every face parameter in full, and the logits that this rank's model, sharded or not,
gives for ``$PROBE``.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import SequentialSampler

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts" / "recipes"), str(HERE.parents[1])]
import cpu_fsdp  # noqa: E402
import train_hf  # noqa: E402

from tests.core.standin import watch_experts  # noqa: E402

FACE = "multi_modal_projector.face."


def face_parameters(model: Any) -> dict[str, torch.Tensor]:
    """Every face parameter in full, whatever it is sharded by."""
    named = {name: p for name, p in model.named_parameters() if FACE in name}
    gathered: Any = nullcontext()
    if any(hasattr(p, "ds_id") for p in named.values()):
        import deepspeed

        gathered = deepspeed.zero.GatheredParameters(list(named.values()))
    with gathered:
        return {
            name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone() for name, p in named.items()
        }


def record(trainer: Any) -> None:
    model = trainer.model_wrapped
    model.eval()
    with torch.no_grad():
        logits = model(**torch.load(os.environ["PROBE"])).logits
    out = {"face": face_parameters(trainer.model), "logits": logits, "log": trainer.state.log_history}
    out["unused"] = trainer.unused
    torch.save(out, Path(os.environ["RECORD"]) / f"rank{trainer.args.process_index}.pt")


class WithoutBlanks(train_hf.Collator):
    """A batch of texts alone stays without an image."""

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = super().__call__(items)
        if any("pixel_values" in item for item in items):
            return batch
        return {key: batch[key][: len(items)] for key in ("input_ids", "labels", "attention_mask")}


class Trainer(train_hf.FaceTrainer):
    """Notes which experts this rank's patches have left out, for each of its micro-batches."""

    unused: list[set[str]]

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        unused = watch_experts(self.model, share=0.0)
        loss = super().training_step(model, *args, **kwargs)
        self.__dict__.setdefault("unused", []).append(set(unused))
        return loss

    def _get_train_sampler(self, *args: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def save_state(self) -> None:
        record(self)
        super().save_state()


if __name__ == "__main__":
    cpu_fsdp.install()
    if os.environ.get("WITHOUT_BLANKS"):
        train_hf.Collator = WithoutBlanks  # type: ignore[misc]
    train_hf.FaceTrainer = Trainer  # type: ignore[misc]
    train_hf.main()
