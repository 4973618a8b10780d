"""The demo's table: one row a figure, face mode off and on."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from demo_report import write_report
from rich.console import Console
from rich.table import Table

from llava_face_plugin.data.prepared import Prepared

console = Console()


@dataclass
class Run:
    """One training and its evaluation."""

    mode: str
    seed: int
    score: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, float] = field(default_factory=dict)
    rule_breaking: float | None = None
    losses: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    parameters: int = 0
    step_ms: float = 0.0
    memory_mib: float = 0.0


ROWS: list[tuple[str, str, Any]] = [
    ("accuracy", "accuracy on held-out questions", lambda r: r.score["accuracy"]),
    ("balanced_accuracy", "balanced accuracy", lambda r: r.score["balanced_accuracy"]),
    ("majority", "(always the commoner answer)", lambda r: r.score["majority"]),
    ("unparsed", "answers that are neither yes nor no", lambda r: r.score["unparsed"]),
    ("rule_breaking", "faces whose answers break a rule", lambda r: r.rule_breaking),
    ("loss_lm", "final L_lm", lambda r: r.losses.get("loss_lm")),
    ("loss_bce", "final L_bce", lambda r: r.losses.get("loss_bce")),
    ("loss_logic", "final L_c", lambda r: r.losses.get("loss_logic")),
    ("parameters", "parameters", lambda r: float(r.parameters)),
    ("step_ms", "time per step (ms)", lambda r: r.step_ms),
    ("memory_mib", "peak memory (MiB)", lambda r: r.memory_mib),
]


def summary(runs: list[Run], value: Any) -> dict[str, float | None]:
    """Mean and, from two runs on, sample standard deviation."""
    values = [v for r in runs if (v := value(r)) is not None]
    if not values:
        return {"mean": None, "sd": None}
    return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def write_results(out: Path, runs: list[Run], protocol: dict[str, Any], prepared: Prepared) -> None:
    """Prints the table; writes results.json, the pictures and report.html."""
    by_mode = {mode: [r for r in runs if r.mode == mode] for mode in ("off", "on")}
    rows = []
    for key, label, value in ROWS:
        off, on = (summary(by_mode[mode], value) for mode in ("off", "on"))
        ratio = on["mean"] / off["mean"] if on["mean"] is not None and off["mean"] else None
        rows.append({"key": key, "label": label, "off": off, "on": on, "ratio": ratio})
    results = {"protocol": protocol, "rows": rows, "runs": [asdict(r) for r in runs]}
    (out / "results.json").write_text(json.dumps(results, indent=1))
    table = Table("", "off", "on", "on / off", title="LLaVA's own scripts, face mode off and on", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row["label"], show(row["off"]), show(row["on"]), f"{row['ratio']:.3f}" if row["ratio"] else "")
    console.print(table)
    console.print(f"[dim]{protocol['model']}[/dim]")
    write_report(out, results, prepared)


def show(cell: dict[str, float | None]) -> str:
    """A figure with its spread."""
    mean, sd = cell["mean"], cell["sd"]
    if mean is None:
        return "-"
    digits = 0 if mean >= 1000 else 1 if mean >= 10 else 3
    return f"{mean:,.{digits}f}" + (f" ± {sd:,.{digits}f}" if sd is not None else "")
