"""What ``llava-face plan`` estimates for ZeRO against two processes of DeepSpeed on a CPU.

    DS_ACCELERATOR=cpu .venv/bin/python -m torch.distributed.run --nproc_per_node 2 \
        scripts/benchmarks/plan_zero_check.py [--zero 1 2 3] [--size small|tiny] [--out DIR]

transformers' Llava with random weights, DeepSpeed's settings as in LLaVA's zero2.json and zero3.json ("auto" as Trainer
fills it in). Measured: the bytes of all living tensors of one process when most are alive, in the second and third
step; the greater of both processes. The estimate's allowance for CUDA is left out.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import deepspeed
import torch
import torch.distributed as dist
import transformers
from cases import FAVCHAT, SEED, SIZES, VANILLA, Size, Variant, by_label, default_variant, unscaled, with_knowledge
from flops import face_config
from hf_model import HfBench, small_shapes
from report import machine

from llava_face_plugin.planning.face import of_preset
from llava_face_plugin.planning.memory import OVERHEAD
from llava_face_plugin.planning.plan import Machine, Planner
from llava_face_plugin.planning.tracing import LiveBytes
from llava_face_plugin.planning.work import Spread, Work

MIB = 2**20


class Case(NamedTuple):
    """One row."""

    variant: Variant
    zero: int
    dtype: str
    train: str
    accumulation: int


def cases() -> Iterator[Case]:
    """Face mode on; off, stage 1, accumulation and fp32 once. ZeRO-3 last: it leaves torch's ``linear`` replaced.

    The facial encoder in fp32, the dtype that a frozen one has on a CPU.
    """
    on = with_knowledge(default_variant(), 20)
    facial = [unscaled(by_label(label)) for label in (FAVCHAT, f"{FAVCHAT}, encoder trained")]
    yield Case(on, 1, "bf16", "full", 1)
    yield Case(on, 2, "bf16", "projector", 1)
    yield Case(on, 2, "bf16", "full", 1)
    yield Case(VANILLA, 2, "bf16", "full", 1)
    yield Case(on, 2, "bf16", "full", 2)
    yield from (Case(variant, 2, "fp32", "full", 1) for variant in facial)
    yield from (Case(variant, 3, "fp32", "full", 1) for variant in facial)
    yield Case(on, 3, "bf16", "projector", 1)
    yield Case(on, 3, "bf16", "full", 1)
    yield Case(VANILLA, 3, "bf16", "full", 1)
    yield Case(on, 3, "fp32", "full", 1)


class TwoProcessBench(HfBench):
    """Weights in the case's dtype."""

    weights: torch.dtype = torch.float32

    @property
    def dtype(self) -> torch.dtype:
        return self.weights


def settings(case: Case, size: Size) -> dict[str, Any]:
    """LLaVA's zero2.json and zero3.json, "auto" filled in as Trainer does."""
    zero: dict[str, Any] = {
        "stage": case.zero, "overlap_comm": True, "contiguous_gradients": True, "sub_group_size": int(1e9),
        "reduce_bucket_size": size.hidden**2,
    }  # fmt: skip
    if case.zero == 3:
        zero |= {
            "stage3_prefetch_bucket_size": int(0.9 * size.hidden**2),
            "stage3_param_persistence_threshold": 10 * size.hidden,
            "stage3_max_live_parameters": int(1e9), "stage3_max_reuse_distance": int(1e9),
        }  # fmt: skip
    return {
        "zero_optimization": zero, "bf16": {"enabled": case.dtype == "bf16"}, "zero_allow_untested_optimizer": True,
        "train_micro_batch_size_per_gpu": size.batch, "gradient_accumulation_steps": case.accumulation,
    }  # fmt: skip


def living(case: Case, bench: TwoProcessBench) -> int:
    """Bytes of this process's living tensors at the fullest moment after the first step."""
    torch.manual_seed(SEED)
    live = LiveBytes()
    with live:
        config = settings(case, bench.size)
        model = bench.load(case.variant)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-5, foreach=True)
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config, model_parameters=trained)
        del model, trained, optimizer
        batch = bench.batch(case.variant)
        for step in range(3):
            if step == 1:
                gc.collect()
                live.forget_peak()
            for _ in range(case.accumulation):
                engine.backward(engine(**batch).loss)
                engine.step()
    peak = live.peak.total()
    engine.destroy()
    gc.collect()
    return peak


def estimate(case: Case, bench: TwoProcessBench) -> dict[str, int]:
    """The plan's bytes by part at its peak."""
    stage = {"full": "finetune", "projector": "pretrain"}[case.train]
    work = Work(
        bench.visual, bench.size.text, batch=bench.size.batch, stage=stage, dtype=case.dtype, checkpointing=False
    )  # fmt: skip
    face = face_config(case.variant, bench.size) if case.variant.face else None
    planner = Planner(bench.shapes, face or of_preset("light"), Machine())
    spread = Spread(dist.get_world_size(), case.zero, accumulation=case.accumulation)
    parts = planner.mode(work, spread, face).memory.peak.parts
    return {part: size for part, size in parts.items() if part != OVERHEAD}


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| ZeRO | face mode | trained | dtype | accumulation | estimate MiB | living MiB | ratio |"]
    lines.append("|---|---|---|---|---:|---:|---:|---:|")
    for row in rows:
        lines.append(
            f"| {row['zero']} | {row['face']} | {row['train']} | {row['dtype']} | {row['accumulation']} | "
            f"{row['estimate'] / MIB:.1f} | {row['living'] / MIB:.1f} | {row['estimate'] / row['living']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "medium", "tiny"), default="small")
    parser.add_argument("--zero", type=int, nargs="+", choices=(1, 2, 3), default=(1, 2, 3))
    parser.add_argument("--facial", action="store_true", help="only what has a facial encoder")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("plan_zero_check"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    deepspeed.init_distributed(dist_backend="gloo")
    size = replace(SIZES[arguments.size], batch=arguments.batch)
    image = (size.image_size, size.image_size)
    rows = []
    chosen = (case for case in cases() if case.variant.facial or not arguments.facial)
    for case in (case for case in chosen if case.zero in arguments.zero):
        bench = TwoProcessBench(small_shapes("llava", size), size, "cpu", case.train, image)
        bench.weights = {"bf16": torch.bfloat16, "fp32": torch.float32}[case.dtype]
        estimated = estimate(case, bench)
        peak = torch.tensor(living(case, bench))
        dist.all_reduce(peak, dist.ReduceOp.MAX)
        face = case.variant.label if case.variant.face else "off"
        row = {**case._asdict(), "face": face, "estimate": sum(estimated.values()), "parts": estimated}
        rows.append({**row, "variant": case.variant.label, "living": int(peak)})
        if dist.get_rank() == 0:
            print(table(rows[-1:]).splitlines()[2], {k: round(v / MIB, 1) for k, v in estimated.items()}, flush=True)
    if dist.get_rank() == 0:
        arguments.out.mkdir(parents=True, exist_ok=True)
        results = {"rows": rows, "size": str(size), "machine": machine("cpu")}
        (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        (arguments.out / "results.md").write_text(table(rows) + "\n", encoding="utf-8")
        print(f"written: {arguments.out}/results.json, {arguments.out}/results.md")


if __name__ == "__main__":
    main()
