"""One rank of a training loop of plain torch: ``fully_shard``, no Trainer and no accelerate. ``START FACES OUT``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForImageTextToText, AutoProcessor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "recipes"))
import train_hf


def main(start: str, faces: Path, out: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    model = AutoModelForImageTextToText.from_pretrained(start, dtype=torch.float32).train()
    model.model.vision_tower.requires_grad_(False)
    mesh = init_device_mesh("cpu", (world,))
    for layer in model.model.language_model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)  # the projector and its branch are the root's
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    data = train_hf.Faces(str(faces / "train.json"), str(faces), AutoProcessor.from_pretrained(start))
    collator = train_hf.Collator(data.processor, len(data.vocabulary))
    for first in range(2 * rank, len(data), 2 * world):
        model(**collator([data[first], data[first + 1]])).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # as Trainer does
        optimizer.step()
        optimizer.zero_grad()
    dcp.save(model.state_dict(), checkpoint_id=out / "sharded")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
