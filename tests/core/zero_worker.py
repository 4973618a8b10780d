"""Run by torchrun (test_zero.py): the branch under DeepSpeed on ranks with different batches, against one process."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor, nn

from llava_face_plugin.branch import FaceBranch
from llava_face_plugin.fusion import Auxiliary, Layers
from tests.core.standin import LLM, VISION, config, everything_of, features, maps, pictures, projector

STEPS, RATE = 3, 0.05
ENCODER = "part-embedding & facial-trained"
FUSIONS: list[dict[str, Any]] = [
    # Balance over images: over the batch it would be that of each rank's part.
    {"type": "moe", "hidden": 8, "balance_over": "image", "z_weight": 0.1},
    {"type": "moe", "hidden": 8, "balance_over": "image", "dispatch": "grouped", "top_k": 1},
    {"type": "soft-gate", "hidden": 8, "width": 8},
    {"type": "text-query", "width": 8, "heads": 2, "queries": 3},
]


class Model(nn.Module):
    """Projector and branch; the loss of a rank's batch. Rank 1 has black pictures, no map and no prompt."""

    def __init__(self, fusion: dict[str, Any]) -> None:
        super().__init__()
        self.plain = projector()
        self.face = FaceBranch(config(ENCODER, fusion, knowledge=None), VISION, LLM)

    def forward(self, rank: int) -> Tensor:
        inputs = {**everything_of(2), "rgb": pictures(2, seed=30), "auxiliary": Auxiliary()}
        label_map: Tensor | None = maps(2)
        if rank == 1:
            inputs |= {"rgb": torch.zeros(2, 3, 16, 16), "prompt": None}
            label_map = None
        tokens = self.face(Layers(list(self.plain)), features(2, 4, seed=20 + rank), label_map, **inputs)
        loss = (tokens - torch.linspace(-1, 1, LLM)).square().mean()
        more = inputs["auxiliary"].weighted()
        return loss if more is None else loss + more


def fill(model: nn.Module) -> None:
    """The same random weights everywhere, gates open."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=random))


def by_deepspeed(fusion: dict[str, Any], stage: int) -> dict[str, Tensor]:
    """The weights after some steps on two ranks."""
    settings = {
        "train_micro_batch_size_per_gpu": 2, "gradient_clipping": 0.0, "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
    }  # fmt: skip
    sharded = deepspeed.zero.Init(config_dict_or_path=settings) if stage == 3 else contextlib.nullcontext()
    with sharded:
        model = Model(fusion)
    parameters = list(model.parameters())
    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0, enabled=stage == 3):
        fill(model)
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=parameters, optimizer=optimizer, config=settings
    )  # fmt: skip
    for _ in range(STEPS):
        engine.backward(engine(dist.get_rank()))
        engine.step()
    with deepspeed.zero.GatheredParameters(parameters, enabled=stage == 3):
        return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def by_one_process(fusion: dict[str, Any]) -> dict[str, Tensor]:
    """The same steps on the mean of both ranks' losses."""
    model = Model(fusion)
    fill(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((model(0) + model(1)) / 2).backward()
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def main(stage: int) -> None:
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]  # a build of minutes
    deepspeed.init_distributed("gloo")
    for fusion in FUSIONS:
        found, expected = by_deepspeed(fusion, stage), by_one_process(fusion)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=f"{fusion}: {name}")
        if dist.get_rank() == 0:
            print("equal", fusion["type"], flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
