"""What ``llava-face plan`` estimates against what a training step takes, on a CPU.

    .venv/bin/python scripts/benchmarks/plan_check.py [--size small|medium|tiny] [--out DIR]

Each case is a model of LLaVA's own classes with random fp32 weights, made and trained (AdamW, fused) in a fresh
process. Measured are the bytes of living tensors in the second step, and by how much the process's resident memory
grew from before the model was built to its peak over three steps. The estimate reads the same model directory,
without weights, for one process without ZeRO; its allowance for CUDA is left out.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import llava.model  # noqa: F401  before the forks
import torch
import transformers
import transformers.models.clip.modeling_clip
from bench_model import Bench, training_step
from cases import (
    FAVCHAT,
    FAVCHAT_V6,
    GROUPED,
    SIZES,
    VANILLA,
    Size,
    Variant,
    default_variant,
    unscaled,
    variants,
    with_knowledge,
)
from measuring import Step, fresh_process, resident_growth
from report import machine
from torch import Tensor

from llava_face_plugin.planning.face import of_preset
from llava_face_plugin.planning.memory import OVERHEAD
from llava_face_plugin.planning.plan import Machine, Planner
from llava_face_plugin.planning.read import shapes_of
from llava_face_plugin.planning.tokens import Visual
from llava_face_plugin.planning.tracing import LiveBytes
from llava_face_plugin.planning.work import Spread, Work

MIB = 2**20
STAGE = {"full": "finetune", "projector": "pretrain", "peft": "lora"}
LORA_RANK = 16


class Case(NamedTuple):
    """One row: the variant, what is trained, the batch, gradient checkpointing."""

    variant: Variant
    train: str
    batch: int
    checkpointing: bool


def cases(batches: tuple[int, int]) -> Iterator[Case]:
    """Off and on x checkpointing x batch x what is trained; the other encoders and fusions once or twice."""
    on = with_knowledge(default_variant(), 20)
    for train in STAGE:
        for checkpointing in (False, True):
            for batch in batches:
                for variant in (VANILLA, on):
                    yield Case(variant, train, batch, checkpointing)
    by_label = {variant.label: variant for variant in variants()}
    for label in ("part-embedding, append pool 1", "vit-palette (shared ViT), channel"):
        yield Case(by_label[label], "full", batches[1], False)
    for variant in (by_label[label] for label in (FAVCHAT, GROUPED, FAVCHAT_V6, f"{FAVCHAT}, encoder trained")):
        for train, checkpointing in (("full", False), ("projector", True)):
            yield Case(unscaled(variant), train, batches[1], checkpointing)


def bench_of(case: Case, size: Size, work: Path) -> Bench:
    train = "projector" if case.train == "peft" else case.train
    return Bench(replace(size, batch=case.batch), "cpu", train, work, case.checkpointing)


def step_of(bench: Bench, case: Case) -> tuple[list[Tensor], Step]:
    """The tensors that are there before, weights and batch, and a function that runs a step."""
    model, batch = bench.load(case.variant), bench.batch(case.variant)
    if case.train == "peft":
        _add_lora(model)
    return [*model.parameters(), *model.buffers(), *batch.values()], training_step(model, batch, "cpu")


def _add_lora(model: torch.nn.Module) -> None:
    """As LLaVA's train.py: every linear layer of the language model but its head."""
    from peft import LoraConfig, inject_adapter_in_model

    targets = r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
    config = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=targets, lora_dropout=0.05)
    wanted = {name for name, p in model.named_parameters() if p.requires_grad}
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or name in wanted)


def living(bench: Bench, case: Case) -> int:
    """Bytes of weights, batch, gradients, optimizer states and activations when most are alive, in the second step."""
    before, step = step_of(bench, case)
    sizes = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in before}
    live = LiveBytes()
    live.leave_out(before)
    with live:
        step()  # in which a frozen facial encoder reads its file
        gc.collect()
        live.forget_peak()
        step()
    return sum(sizes.values()) + live.peak.total()


def resident(bench: Bench, case: Case) -> int:
    """Bytes by which the process grew."""
    return resident_growth(lambda: step_of(bench, case)[1])


def estimate(bench: Bench, case: Case) -> dict[str, int]:
    """The plan's bytes by part at its peak."""
    size = bench.size
    shapes = shapes_of(str(bench.directory(case.variant)), "llava-v1", str(bench.work / "base" / "clip"))
    work = Work(
        Visual(1, size.patches), size.text, batch=size.batch, stage=STAGE[case.train], dtype="fp32",
        lora_rank=LORA_RANK, checkpointing=case.checkpointing,
    )  # fmt: skip
    planner = Planner(shapes, shapes.face or of_preset("light"), Machine())
    mode = planner.mode(work, Spread(1, zero=0, optimizer="adamw_torch_fused"), shapes.face)
    return {part: size for part, size in mode.memory.peak.parts.items() if part != OVERHEAD}


def row_of(case: Case, size: Size, work: Path) -> dict[str, Any]:
    bench = bench_of(case, size, work)
    bench.directory(case.variant)
    estimated = fresh_process(estimate, bench, case)
    found = {
        "variant": case.variant.label, "train": case.train, "batch": case.batch, "checkpointing": case.checkpointing,
        "estimate": sum(estimated.values()), "parts": estimated,
        "living": fresh_process(living, bench, case), "resident": fresh_process(resident, bench, case),
    }  # fmt: skip
    found["estimate / living"] = found["estimate"] / found["living"]
    found["estimate / resident"] = found["estimate"] / found["resident"]
    return found


def table(rows: list[dict[str, Any]]) -> str:
    head = "| variant | trained | batch | checkpointing | estimate MiB | living MiB | ratio | resident MiB | ratio |"
    lines = [head, "|---|---|---:|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        again = "on" if row["checkpointing"] else "off"
        lines.append(
            f"| {row['variant']} | {STAGE[row['train']]} | {row['batch']} | {again} | "
            f"{row['estimate'] / MIB:.1f} | {row['living'] / MIB:.1f} | {row['estimate / living']:.3f} | "
            f"{row['resident'] / MIB:.1f} | {row['estimate / resident']:.3f} |"
        )
    for measure in ("living", "resident"):
        ratios = [row[f"estimate / {measure}"] for row in rows]
        lines.append(f"\nestimate / {measure}: {min(ratios):.3f} to {max(ratios):.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "medium", "tiny"), default="small")
    parser.add_argument("--batches", type=int, nargs=2, default=(2, 16))
    parser.add_argument("--facial", action="store_true", help="only what has a facial encoder")
    parser.add_argument("--out", type=Path, default=Path("plan_check"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", "None of the inputs have requires_grad")  # the frozen tower's checkpoints
    size = SIZES[arguments.size]
    rows = []
    with tempfile.TemporaryDirectory(prefix="plan_check_") as work:
        bench_of(next(cases((1, 2))), size, Path(work)).write_base()
        for case in (one for one in cases(tuple(arguments.batches)) if one.variant.facial or not arguments.facial):
            rows.append(row_of(case, size, Path(work)))
            print(table(rows[-1:]).splitlines()[2], flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = {"rows": rows, "size": str(size), "machine": machine("cpu")}
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "results.md").write_text(table(rows) + "\n", encoding="utf-8")
    print(table(rows).rpartition("\n\n")[2])
    print(f"written: {arguments.out}/results.json, {arguments.out}/results.md")


if __name__ == "__main__":
    main()
