"""Dense against grouped dispatch of the mixture of experts: time and memory of the adapter alone, in one run.

    .venv/bin/python scripts/benchmarks/dispatch_cost.py [--images N] [--pairs N] [--device cpu|cuda] [--out DIR]

The adapter of the preset ``favchat`` at LLaVA-1.5-7B's widths: 576 patches an image, 4096 wide, experts of
4096 -> 1024 -> 4096, random weights and inputs. Dense, grouped and dense again take turns, call by call; the ratio is
the median of grouped_i / dense_i, and dense again / dense shows the noise. ``training`` is forward and backward,
``inference`` the forward alone. On a GPU weights are bf16, and a call ends when the device has no work left: grouped
dispatch reads from the device how many patches each expert got.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from cases import SEED
from measuring import WARM_UP, Step, paired
from report import Table, machine, show, write_tables
from torch import Tensor, nn

from llava_face_plugin.config import FusionConfig
from llava_face_plugin.fusion import FaceInputs, Layers, MixtureOfExperts, Sources

PATCHES, VISION, LLM = 576, 1024, 4096
SOURCES = Sources(tokens=False, taps=4, tap_width=768)


class Case(NamedTuple):
    """One row."""

    experts: int
    top_k: int
    train: bool

    @property
    def products(self) -> float:
        """What grouped dispatch computes of the experts' products, as a share of dense dispatch's."""
        return self.top_k / self.experts


def cases() -> Iterator[Case]:
    for experts, top_k in ((4, 2), (4, 1), (8, 2)):
        for train in (True, False):
            yield Case(experts, top_k, train)
    yield Case(16, 2, False)


def adapter(case: Case, dispatch: str, device: str) -> MixtureOfExperts:
    """Fresh weights, the same for both ways of dispatch."""
    torch.manual_seed(SEED)
    config = FusionConfig(type="moe", experts=case.experts, top_k=case.top_k, dispatch=dispatch)  # type: ignore[arg-type]
    made = MixtureOfExperts(config, VISION, LLM, SOURCES)
    made.reset_parameters()
    nn.init.ones_(made.gate)
    return made.to(device, torch.float32 if device == "cpu" else torch.bfloat16)


def inputs(images: int, device: str, dtype: torch.dtype) -> tuple[Tensor, FaceInputs]:
    random = torch.Generator().manual_seed(SEED)
    features = torch.randn(images, PATCHES, VISION, generator=random)
    taps = torch.randn(images, PATCHES, SOURCES.taps, SOURCES.tap_width, generator=random)
    none = torch.zeros(images, PATCHES, 0)
    return features.to(device, dtype), FaceInputs(none.to(device, dtype), taps.to(device, dtype))


def stepper(case: Case, dispatch: str, images: int, device: str) -> Step:
    """A function that runs the adapter once and returns wall and CPU seconds."""
    made = adapter(case, dispatch, device)
    features, face = inputs(images, device, made.gate.dtype)
    layers = Layers([nn.Linear(VISION, LLM, bias=False).to(device, made.gate.dtype).requires_grad_(False)])

    def step() -> tuple[float, float]:
        _wait(device)
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.set_grad_enabled(case.train):
            tokens = made(layers, features, face)
        if case.train:
            tokens.sum().backward()
            made.zero_grad(set_to_none=True)
        _wait(device)
        return time.perf_counter() - wall, time.process_time() - cpu

    return step


def row_of(case: Case, images: int, pairs: int, device: str) -> dict[str, Any]:
    """Paired ratios; on a GPU the peak memory of a call of each as well."""
    steps = [stepper(case, dispatch, images, device) for dispatch in ("dense", "grouped", "dense")]
    times = np.array([[step() for step in steps] for _ in range(WARM_UP + pairs)][WARM_UP:])  # (pair, step, clock)
    clock = 1 if device == "cpu" else 0
    found: dict[str, Any] = {"case": case._asdict(), "products": case.products, "pairs": pairs}
    for index, name in ((1, "grouped / dense"), (2, "dense again / dense")):
        found[name] = paired(times[:, 0, clock], times[:, index, clock])
    if device == "cuda":
        found["peak_bytes"] = [_peak(step) for step in steps[:2]]
    return found


def _peak(step: Step) -> int:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return torch.cuda.max_memory_allocated() - before


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def table(rows: list[dict[str, Any]], device: str) -> Table:
    clock = "cpu" if device == "cpu" else "wall"
    head = ["experts", "top k", "", "pairs", f"ms dense / grouped ({clock})", f"{clock} ratio (95 %)", "noise (95 %)",
            "experts' products", "MiB dense / grouped"]  # fmt: skip
    cells = []
    for row in rows:
        case, found = Case(**row["case"]), row["grouped / dense"]
        memory = " / ".join(f"{size / 2**20:.0f}" for size in row.get("peak_bytes", [])) or "-"
        cells.append(
            [
                str(case.experts), str(case.top_k), "training" if case.train else "inference", str(row["pairs"]),
                f"{found['first_ms']:.1f} / {found['second_ms']:.1f}", _interval(found),
                _interval(row["dense again / dense"]), f"x{row['products']:.3f}", memory,
            ]
        )  # fmt: skip
    return Table("Grouped against dense dispatch", head, cells)


def _interval(found: dict[str, float]) -> str:
    return f"{found['ratio']:.3f} ({found['low']:.3f}-{found['high']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("dispatch_cost"))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU")
    torch.set_num_threads(arguments.threads)
    rows = [row_of(case, arguments.images, arguments.pairs, arguments.device) for case in cases()]
    protocol = {"images": arguments.images, "patches": PATCHES, "warm-up rounds dropped": WARM_UP}
    found = table(rows, arguments.device)
    write_tables(
        arguments.out, {"rows": rows, "protocol": protocol, "machine": machine(arguments.device)}, [found]
    )  # fmt: skip
    show([found])
    print(f"written: {arguments.out}/results.json, {arguments.out}/results.md")


if __name__ == "__main__":
    main()
