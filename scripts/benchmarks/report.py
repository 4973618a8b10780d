"""The tables, the goals, and the files that hold them."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from cases import DEFAULT, KNOWLEDGE, ON_OFF, SEED
from flops import Counted

GOALS = {"time": 1.10, "memory": 1.08, "knowledge": 1.01}


class Table(NamedTuple):
    title: str
    head: list[str]
    cells: list[list[str]]


def counted_table(title: str, rows: list[Counted]) -> Table:
    head = [
        "variant", "trained", "frozen", "weights MiB", "training state MiB", "LLM tokens",
        "GFLOP forward", "GFLOP training", "forward", "training", "stage 1",
    ]  # fmt: skip
    cells = [
        [
            r.label, f"{r.trained_parameters / 1e6:.2f} M", f"{r.frozen_parameters / 1e6:.0f} M",
            f"{r.weight_bytes / 2**20:.1f} ({_x(r.weight_ratio)})",
            f"{r.training_bytes / 2**20:.1f} ({_x(r.training_bytes_ratio)})",
            f"+{r.tokens}", f"+{r.forward_flops / 1e9:.3g}", f"+{r.training_flops / 1e9:.3g}",
            _x(r.forward_ratio), _x(r.training_ratio), _x(r.stage1_ratio),
        ]
        for r in rows
    ]  # fmt: skip
    return Table(title, head, cells)


def measured_table(title: str, results: dict[str, Any]) -> Table:
    kinds = [kind for kind in ("wall", "cpu") if kind in next(iter(results["time"].values()))]
    head = ["comparison", "pairs", "ms A / B (wall)"]
    for kind in kinds:
        head += [f"{kind} ratio", f"{kind} 95 % (quartiles)"]
    head += ["peak memory ratio", "FLOPs say"]
    cells = []
    for name, found in results["time"].items():
        row = [name, str(found["pairs"]), f"{found['wall']['first_ms']:.0f} / {found['wall']['second_ms']:.0f}"]
        for kind in kinds:
            f = found[kind]
            row += [f"{f['ratio']:.3f}", f"{f['low']:.3f}-{f['high']:.3f} ({f['q1']:.3f}-{f['q3']:.3f})"]
        cells.append([*row, f"{results['memory_ratio'][name]:.3f}", _x(results["flops_ratio"][name])])
    return Table(title, head, cells)


def _x(ratio: float) -> str:
    return f"x{ratio:.4f}" if ratio < 1.01 else f"x{ratio:.3f}"


def goals(results: dict[str, Any]) -> list[str]:
    """Each goal, met or missed. CPU time decides where there is one: the machine may be shared."""

    def ratio(name: str) -> float:
        found = results["time"][name]
        return float(found.get("cpu", found["wall"])["ratio"])

    checks = [
        ("default step / vanilla step", ratio(DEFAULT), GOALS["time"]),
        ("default with knowledge / vanilla step", ratio(KNOWLEDGE), GOALS["time"]),
        ("knowledge on / off, step", ratio(ON_OFF), GOALS["knowledge"]),
        ("default memory / vanilla", results["memory_ratio"][DEFAULT], GOALS["memory"]),
        ("default with knowledge, memory / vanilla", results["memory_ratio"][KNOWLEDGE], GOALS["memory"]),
    ]
    return [f"{'met' if r <= goal else 'MISSED'}: {name} x{r:.3f} (goal x{goal:.2f})" for name, r, goal in checks]


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = ("torch", "transformers", "llava-torch", "numpy", "llava-face-plugin")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed as a package"
    return {
        "cpu": next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?"),
        "cores": os.cpu_count(), "threads": torch.get_num_threads(), "load_average": os.getloadavg(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "python": platform.python_version(), "versions": versions, "seed": SEED,
        "command": shlex.join(["python", *sys.argv]), "date": time.strftime("%Y-%m-%d %H:%M"),
    }  # fmt: skip


def write(out: Path, results: dict[str, Any], tables: list[Table]) -> None:
    """``results.json`` and ``results.md`` in ``out``, with the goals, if there are any."""
    goals = [f"- {line}" for line in results["goals"]]
    write_tables(out, results, tables, ["## Goals", "", *goals, ""] if goals else [])


def write_tables(out: Path, results: dict[str, Any], tables: list[Table], more: Sequence[str] = ()) -> None:
    """``results.json``, and ``results.md`` with the tables, ``more`` lines and the protocol."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    lines = []
    for title, head, cells in tables:
        lines += [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(row) + " |" for row in cells] + [""]
    lines += [*more, "## Protocol", ""]
    lines += [f"- {name}: {value}" for name, value in {**results["machine"], **results["protocol"]}.items()]
    (out / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def show(tables: list[Table]) -> None:
    import rich.table
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200)
    for title, head, cells in tables:
        table = rich.table.Table(title=title)
        for heading in head:
            table.add_column(heading, justify="left" if heading == head[0] else "right")
        for row in cells:
            table.add_row(*row)
        console.print(table)
