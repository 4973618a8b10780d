"""Part 2, measured: step times in alternating pairs, and peak memory in a fresh process a variant."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from bench_model import Bench
from cases import SEED, Variant, comparisons
from numpy.typing import ArrayLike

WARM_UP = 2
_M_MMAP_THRESHOLD = -3  # glibc's malloc.h
Step = Callable[[], tuple[float, float]]
"""Runs a training step and returns its wall and CPU seconds."""
T = TypeVar("T")


class Stepping(Protocol):
    """A host's models: LLaVA 1.5's (``bench_model.Bench``) and others (hf_model.py)."""

    device: str

    def stepper(self, variant: Variant) -> Step: ...


def paired(first: ArrayLike, second: ArrayLike) -> dict[str, float]:
    """Median of second_i / first_i with its quartiles and a 95 % bootstrap interval of the median. Seconds in."""
    a, b = np.asarray(first), np.asarray(second)
    ratios = b / a
    drawn = np.random.default_rng(SEED).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    q1, ratio, q3 = np.quantile(ratios, [0.25, 0.5, 0.75])
    found = {"ratio": ratio, "q1": q1, "q3": q3, "low": low, "high": high}
    found |= {"first_ms": 1e3 * np.median(a), "second_ms": 1e3 * np.median(b)}
    return {name: float(value) for name, value in found.items()}


def alternate(a: Step, b: Step, pairs: int) -> tuple[dict[str, float], dict[str, float]]:
    """Runs A B A B ...: the wall and the CPU times of ``pairs`` pairs after the warm-up."""
    times = np.array([(a(), b()) for _ in range(WARM_UP + pairs)][WARM_UP:])  # (pair, A or B, wall or CPU)
    return paired(times[:, 0, 0], times[:, 1, 0]), paired(times[:, 0, 1], times[:, 1, 1])


def measure_time(bench: Bench, steps: int, rows: str, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Paired step times of the comparisons in ``rows``: wall clock, and this process's CPU time (CPU only)."""
    found: dict[str, dict[str, Any]] = {}
    for first, group in groupby(comparisons(rows), key=attrgetter("first")):
        a = bench.stepper(first)
        for name, _, second, factor in group:
            wall, cpu = alternate(a, bench.stepper(second), factor * steps)
            gc.collect()  # frees B's model before the next is built
            found[name] = {"pairs": factor * steps, "wall": wall}
            line = f"{name}: wall x{wall['ratio']:.3f}"
            if bench.device == "cpu":
                found[name]["cpu"] = cpu
                line += f", CPU x{cpu['ratio']:.3f}"
            say(line)
        del a
        gc.collect()
    return found


def measure_memory(bench: Bench, rows: str, say: Callable[[str], None]) -> dict[str, int]:
    """Peak bytes of the training steps of each variant, each in its own process: label -> bytes.

    Call it before this process builds a model. Forks where it can: the imports take longer than the steps.
    """
    import llava.model  # noqa: F401
    import transformers.models.clip.modeling_clip  # noqa: F401

    peaks = {}
    chosen = {variant.label: variant for pair in comparisons(rows) for variant in (pair.first, pair.second)}
    for variant in chosen.values():
        bench.directory(variant)
        peaks[variant.label] = fresh_process(peak_of, bench, variant, device=bench.device)
        say(f"{variant.label}: peak {peaks[variant.label] / 2**20:.1f} MiB")
    return peaks


def fresh_process(work: Callable[..., T], *arguments: Any, device: str = "cpu") -> T:
    """``work(*arguments)`` in a process of its own: on the CPU a fork with a tidy heap, whose imports are done."""
    if device == "cpu":
        _tidy_heap()
    context = multiprocessing.get_context("fork" if device == "cpu" else "spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()


def _tidy_heap() -> None:
    """Has glibc give each tensor pages of its own: resident memory is then what is alive."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 16)
    gc.collect()
    libc.malloc_trim(0)


def peak_of(bench: Stepping, variant: Variant) -> int:
    """Bytes: on CUDA the most ever allocated; on the CPU the most by which resident memory grew."""
    grown = resident_growth(lambda: bench.stepper(variant))
    return torch.cuda.max_memory_allocated() if bench.device == "cuda" else grown


def resident_growth(make_step: Callable[[], Step]) -> int:
    """Bytes by which resident memory grew at most, over making a step and running it three times."""
    before = 4096 * int(Path("/proc/self/statm").read_text().split()[1])
    step = make_step()
    for _ in range(3):
        step()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
