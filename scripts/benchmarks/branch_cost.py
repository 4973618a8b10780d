"""What face mode costs: parameters, bytes, LLM tokens, FLOPs, step time and peak memory, against plain LLaVA.

    .venv/bin/python scripts/benchmarks/branch_cost.py [--out DIR] [--steps N] [--device cpu|cuda]
        [--size small|7b] [--train full|projector|lora] [--rows maps|facial|all]

Two parts, never mixed:

1. Counted, at the shapes of LLaVA-1.5-7B on the meta device, for one image and 64 text tokens. The branch
   runs under torch's ``FlopCounterMode``; LLM and tower are counted by formula. A multiply-add of a matrix
   product or a convolution is 2 FLOPs; what has none (the histograms' scatter, activations, the rules) is not
   counted.
2. Measured, on random weights through the real seam (LLaVA's own classes, the face flag in ``config.json``).
   Each variant alternates step by step with the plain model in one process: A B A B ... The ratio is the
   median of B_i / A_i; the first ``WARM_UP`` pairs are dropped. Peak memory: one fresh process a variant.

``small`` has the 7B model's proportions where they decide the ratio: 9 image tokens a text token, heads 128
wide, a tower of 5 % of the forward FLOPs (7B: 4 %). The script prints both. What reads maps is *not* scaled down
with the LLM: at its default widths (256, knowledge 512) it is 1 % of the small model's forward FLOPs and
0.03 % of the 7B model's, and the fixed cost of a call (Python, kernel starts) weighs more too. So what is
measured there overstates the share of FLOPs at 7B, except for ``append``, whose cost is the LLM's extra tokens;
what a GPU adds (starts of many small kernels, the scatter's atomics) a CPU does not show. ``tiny`` only tries
the script.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_model import Bench
from cases import DEFAULT, SIZES, comparisons, map_variants, variants, with_knowledge
from flops import counted, proportions
from measuring import WARM_UP, measure_memory, measure_time
from report import counted_table, goals, machine, measured_table, show, write


def measured(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Part 2, and what the FLOP counts of the same size say about it."""
    import transformers

    transformers.logging.set_verbosity_error()  # its word on "model of type llama" and the like, once a variant
    bench = Bench(SIZES[arguments.size], arguments.device, arguments.train, work)
    bench.write_base()
    say = (lambda line: None) if arguments.quiet else partial(print, file=sys.stderr, flush=True)
    peaks = measure_memory(bench, arguments.rows, say)  # before this process holds device memory
    pairs = list(comparisons(arguments.rows))
    chosen = {variant.label: variant for pair in pairs for variant in (pair.first, pair.second)}
    rows = counted(bench.size, list(chosen.values()), bench.size.batch)
    column = "training_ratio" if arguments.train == "full" else "stage1_ratio"  # lora: nearly stage 1's
    flops = {row.label: getattr(row, column) for row in rows}
    return {
        "peak_bytes": peaks,
        "memory_ratio": {name: peaks[b.label] / peaks[a.label] for name, a, b, _ in pairs},
        "time": measure_time(bench, arguments.steps, arguments.rows, say),
        "flops_ratio": {name: flops[b.label] / flops[a.label] for name, a, b, _ in pairs},
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("branch_cost"))
    parser.add_argument("--steps", type=int, default=8, help="pairs a variant; default x2, knowledge x4")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--train", choices=("full", "projector", "lora"), help="default: full; 7b: projector")
    parser.add_argument("--rows", choices=("maps", "facial", "all"), default="all", help="which are measured")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="no line a variant on stderr")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU")
    if arguments.size == "7b" and arguments.device != "cuda":
        parser.error("--size 7b is run on a GPU only: --device cuda")
    arguments.train = arguments.train or ("projector" if arguments.size == "7b" else "full")
    return arguments


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="branch_cost_") as work:
        part2 = measured(arguments, Path(work))
    known = [with_knowledge(v, n) for v in map_variants() for n in (20, 40)]
    rows = counted(SIZES["7b"], [*variants(), *known])
    shares = {name: proportions(SIZES[name]) for name in ("7b", arguments.size)}
    print("\n".join(f"forward FLOPs, {name}: {text}" for name, text in shares.items()))
    results = {
        "counted_7b": [asdict(row) for row in rows], **part2, "machine": machine(arguments.device),
        "protocol": {
            "size": f"{arguments.size}: {SIZES[arguments.size]}", "train": arguments.train,
            "forward FLOPs": shares, "warm-up pairs dropped": WARM_UP,
        },
    }  # fmt: skip
    results["goals"] = goals(results) if arguments.rows != "facial" else []
    shown = [row for row in rows if "knowledge" not in row.label or row.label.startswith(DEFAULT)]
    tables = [
        counted_table("Counted at LLaVA-1.5-7B, per image", shown),
        measured_table(f"Measured, {arguments.size} model, {arguments.train} training", results),
    ]
    show(tables)
    print("\n".join(results["goals"]))
    write(arguments.out, results, tables)
    print(f"written: {arguments.out}/results.json, {arguments.out}/results.md")


if __name__ == "__main__":
    main()
