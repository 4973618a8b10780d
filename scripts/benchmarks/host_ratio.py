"""What a training step costs with face mode on, against off, on every host, in one run.

    .venv/bin/python scripts/benchmarks/host_ratio.py [--hosts NAME ...] [--pairs N] [--out DIR]
        [--size medium|small|tiny|7b] [--device cpu|cuda] [--train full|projector|lora] [--on default|favchat|...]

Per host three models of random weights in one process: off, on (the default branch with 20 attributes and their losses;
``--on``: FaVChat's presets instead, at the widths of ``Size.facial``) and off again. Their steps alternate: A B C A B C
...; the ratios are the medians of B_i / A_i and of C_i / A_i, which shows the machine's noise; the first rounds are
dropped. Peak memory: one fresh process a variant.

LLaVA 1.5's and LLaVA-NeXT's packages are both called ``llava``: ``llava-next`` needs a run of its own, with a checkout
of it first on PYTHONPATH (scripts/hosts/llava_next.sh) and ``--hosts llava-next``.

``7b`` needs ``--device cuda``: the shapes of LLaVA-1.5-7B, LLaVA-NeXT-7B and LLaVA-OneVision-7B, bf16, sdpa.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_model import Bench
from cases import (
    AGAIN,
    FAVCHAT,
    FAVCHAT_V6,
    GROUPED,
    SIZES,
    VANILLA,
    Variant,
    by_label,
    default_variant,
    with_knowledge,
)
from flops import proportions
from hf_model import HfBench, small_shapes
from measuring import WARM_UP, Stepping, fresh_process, paired, peak_of
from next_model import NextBench
from report import Table, machine, show, write_tables

from llava_face_plugin.planning.catalogue import MODELS

ON = {
    "default": with_knowledge(default_variant(), 20), "favchat": by_label(FAVCHAT), "grouped": by_label(GROUPED),
    "favchat-v6": by_label(FAVCHAT_V6),
}  # fmt: skip
LARGE = {"hf-llava": "7b", "hf-llava-next": "next-7b", "hf-llava-onevision": "onevision-7b"}
"""Host -> the model of the catalogue that ``--size 7b`` means."""
OWN_CLASSES = ("hf-llava", "hf-llava-next", "hf-llava-next-video", "hf-llava-onevision")
HOSTS = ("llava-v1", *OWN_CLASSES, "llava-next")


def bench_of(host: str, arguments: argparse.Namespace, work: Path) -> Any:
    """The host's models. Raises ``SystemExit`` for one that has no such size."""
    size = SIZES[arguments.size]
    if host == "llava-v1":
        bench = Bench(size, arguments.device, arguments.train, work)
        bench.write_base()
        return bench
    if arguments.size == "7b":
        if host not in LARGE:
            raise SystemExit(f"{host} has no shapes for --size 7b: {', '.join(['llava-v1', *LARGE])} have")
        if host != "hf-llava":  # several tiles and thousands of tokens a sample
            size = replace(size, batch=1)
        return HfBench(MODELS[LARGE[host]], size, arguments.device, arguments.train, (672, 672))
    image = (size.image_size, size.image_size)
    if host != "hf-llava":  # anyres: an image wider than high, the whole of it and two tiles, three times the tokens
        size, image = replace(size, batch=max(1, size.batch // 2)), (2 * size.image_size, size.image_size)
    if host == "llava-next":
        next_bench = NextBench(size, arguments.device, arguments.train, work, image)
        next_bench.write_base()
        return next_bench
    shapes = small_shapes(host.removeprefix("hf-").replace("-", "_"), size)
    return HfBench(shapes, size, arguments.device, arguments.train, image)


def measured(bench: Stepping, on: Variant, rounds: int, memory: bool) -> dict[str, Any]:
    """Paired ratios of wall and CPU time, and of peak memory."""
    peaks = {v.label: fresh_process(peak_of, bench, v, device=bench.device) for v in (VANILLA, on)} if memory else {}
    steps = [bench.stepper(variant) for variant in (VANILLA, on, AGAIN)]
    times = np.array([[step() for step in steps] for _ in range(WARM_UP + rounds)][WARM_UP:])  # (round, step, clock)
    del steps
    gc.collect()
    found: dict[str, Any] = {"pairs": rounds, "peak_bytes": peaks}
    for index, name in ((1, "on / off"), (2, "off again / off")):
        found[name] = {"wall": paired(times[:, 0, 0], times[:, index, 0])}
        if bench.device == "cpu":
            found[name]["cpu"] = paired(times[:, 0, 1], times[:, index, 1])
    if memory:
        found["memory_ratio"] = peaks[on.label] / peaks[VANILLA.label]
    return found


def table(results: dict[str, dict[str, Any]]) -> Table:
    head = [
        "host", "batch x LLM tokens", "parameters", "pairs", "ms off / on (wall)", "cpu ratio (95 %)",
        "wall ratio (95 %)", "noise, cpu (95 %)", "noise, wall (95 %)", "peak memory ratio",
    ]  # fmt: skip
    cells = []
    for host, found in results.items():
        on, again = found["on / off"], found["off again / off"]
        memory = f"{found['memory_ratio']:.3f}" if "memory_ratio" in found else "-"
        cells.append(
            [
                host, f"{found['batch']} x {found['tokens']}", f"{found['parameters'] / 1e6:.1f} M",
                str(found["pairs"]), f"{on['wall']['first_ms']:.0f} / {on['wall']['second_ms']:.0f}",
                _interval(on.get("cpu")), _interval(on["wall"]), _interval(again.get("cpu")),
                _interval(again["wall"]), memory,
            ]
        )  # fmt: skip
    return Table("Face mode on / off, a training step", head, cells)


def _interval(found: dict[str, float] | None) -> str:
    return f"{found['ratio']:.3f} ({found['low']:.3f}-{found['high']:.3f})" if found else "-"


def facts(bench: Any) -> dict[str, int]:
    """Samples of a batch, LLM tokens of a sample and parameters, with face mode off."""
    visual = bench.size.patches if isinstance(bench, Bench) else bench.visual.tokens
    model = bench.load(VANILLA)
    parameters = sum(p.numel() for p in model.parameters())
    return {"batch": bench.size.batch, "tokens": visual + bench.size.text, "parameters": parameters}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", nargs="+", choices=HOSTS, default=HOSTS[:-1])
    parser.add_argument("--on", choices=tuple(ON), default="default")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--size", choices=sorted(SIZES), default="medium")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--train", choices=("full", "projector", "lora"), help="default: full; 7b: projector")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory, for which processes start")
    parser.add_argument("--out", type=Path, default=Path("host_ratio"))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU")
    if arguments.size == "7b" and arguments.device != "cuda":
        parser.error("--size 7b is run on a GPU only: --device cuda")
    arguments.train = arguments.train or ("projector" if arguments.size == "7b" else "full")
    return arguments


def main() -> None:
    import transformers

    arguments = parse()
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    results: dict[str, dict[str, Any]] = {}
    on = ON[arguments.on]
    with tempfile.TemporaryDirectory(prefix="host_ratio_") as work:
        for host in arguments.hosts:
            bench = bench_of(host, arguments, Path(work))
            results[host] = {**measured(bench, on, arguments.pairs, not arguments.no_memory), **facts(bench)}
            show([table({host: results[host]})])
    protocol = {
        "size": f"{arguments.size}: {SIZES[arguments.size]}", "train": arguments.train, "on": on.label,
        "forward FLOPs": proportions(SIZES[arguments.size]), "warm-up rounds dropped": WARM_UP,
    }  # fmt: skip
    found = {"hosts": results, "protocol": protocol, "machine": machine(arguments.device)}
    write_tables(arguments.out, found, [table(results)])
    show([table(results)])
    print(f"written: {arguments.out}/results.json, {arguments.out}/results.md")


if __name__ == "__main__":
    main()
