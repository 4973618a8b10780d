"""Dense against grouped dispatch of the mixture of experts: time and memory of the adapter alone, in one run.

    .venv/bin/python scripts/benchmarks/dispatch_cost.py [--images N] [--patches N] [--scale N] [--pairs N]
        [--device cpu|cuda] [--out DIR]

The adapter of the preset ``favchat`` at LLaVA-1.5-7B's widths: 576 patches an image (or ``--patches``), 4096 wide,
experts of 4096 -> 1024 -> 4096 (``--scale``: widths divided by it), random weights and inputs. Dense, grouped and dense
again take turns, call by call; the ratio is the median of grouped_i / dense_i, and dense again / dense shows the noise.
``training`` is forward and backward, ``inference`` the forward alone. On a GPU weights are bf16, and a call ends when
the device has no work left: grouped dispatch reads from the device how many patches each expert got.
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


class Widths(NamedTuple):
    """Of features, taps, experts and the LLM."""

    vision: int = 1024
    tap: int = 768
    hidden: int = 1024
    llm: int = 4096

    def divided(self, scale: int) -> Widths:
        """All of them."""
        return Widths(*(width // scale for width in self))


TAPS = 4


class Case(NamedTuple):
    """One row."""

    experts: int
    top_k: int
    train: bool

    @property
    def settings(self) -> dict[str, int]:
        return {"experts": self.experts, "top_k": self.top_k}

    @property
    def products(self) -> float:
        """What grouped dispatch computes of the experts' products, as a share of dense dispatch's."""
        return self.top_k / self.experts


def cases() -> Iterator[Case]:
    for experts, top_k in ((4, 2), (4, 1), (8, 2)):
        for train in (True, False):
            yield Case(experts, top_k, train)
    yield Case(16, 2, False)


def adapter(case: Case, dispatch: str, widths: Widths, device: str) -> MixtureOfExperts:
    """Fresh weights, the same for both ways of dispatch."""
    torch.manual_seed(SEED)
    sources = Sources(tokens=False, taps=TAPS, tap_width=widths.tap)
    config = FusionConfig.model_validate(
        {"type": "moe", **case.settings, "hidden": widths.hidden, "dispatch": dispatch}
    )
    made = MixtureOfExperts(config, widths.vision, widths.llm, sources)
    made.reset_parameters()
    nn.init.ones_(made.gate)
    return made.to(device, torch.float32 if device == "cpu" else torch.bfloat16)


def inputs(shape: tuple[int, int], widths: Widths, device: str, dtype: torch.dtype) -> tuple[Tensor, FaceInputs]:
    """``shape``: (images, patches)."""
    random = torch.Generator().manual_seed(SEED)
    features = torch.randn(*shape, widths.vision, generator=random)
    taps = torch.randn(*shape, TAPS, widths.tap, generator=random)
    none = torch.zeros(*shape, 0)
    return features.to(device, dtype), FaceInputs(none.to(device, dtype), taps.to(device, dtype))


def stepper(case: Case, dispatch: str, shape: tuple[int, int], widths: Widths, device: str) -> Step:
    """A function that runs the adapter once and returns wall and CPU seconds."""
    made = adapter(case, dispatch, widths, device)
    features, face = inputs(shape, widths, device, made.gate.dtype)
    layers = Layers(
        [nn.Linear(widths.vision, widths.llm, bias=False).to(device, made.gate.dtype).requires_grad_(False)]
    )

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


def row_of(case: Case, shape: tuple[int, int], widths: Widths, pairs: int, device: str) -> dict[str, Any]:
    """Paired ratios; on a GPU the peak memory of a call of each as well."""
    steps = [stepper(case, dispatch, shape, widths, device) for dispatch in ("dense", "grouped", "dense")]
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
    parser.add_argument("--patches", type=int, default=576)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("dispatch_cost"))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU")
    torch.set_num_threads(arguments.threads)
    shape = (arguments.images, arguments.patches)
    widths = Widths().divided(arguments.scale)
    rows = []
    for case in cases():
        rows.append(row_of(case, shape, widths, arguments.pairs, arguments.device))
        print(" | ".join(table(rows[-1:], arguments.device).cells[0]), flush=True)
    protocol = {
        "images": arguments.images, "patches": arguments.patches, "widths": widths._asdict(),
        "warm-up rounds dropped": WARM_UP,
    }  # fmt: skip
    found = table(rows, arguments.device)
    write_tables(
        arguments.out, {"rows": rows, "protocol": protocol, "machine": machine(arguments.device)}, [found]
    )  # fmt: skip
    show([found])
    print(f"written: {arguments.out}/results.json, {arguments.out}/results.md")


if __name__ == "__main__":
    main()
