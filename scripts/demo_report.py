"""The demo's pictures and its HTML page."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from llava_face_plugin.data.prepared import Prepared
from llava_face_plugin.knowledge.file import Knowledge
from llava_face_plugin.knowledge.plots import plot_conditional
from llava_face_plugin.maps.files import open_image, read_map
from llava_face_plugin.maps.overlay import contact_sheet

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .3rem .9rem; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left }
img { max-width: 100% } .note { color: #666 } code { background: #f4f4f4; padding: .1rem .3rem }
"""


def write_report(out: Path, results: dict[str, Any], prepared: Prepared) -> None:
    """Writes maps.png (where there are maps), curves.png, cooccurrence.png and report.html into ``out``."""
    pictures = {"Loss": curves(out / "curves.png", results["runs"])}
    sheet = maps(out / "maps.png", prepared)
    if sheet is not None:
        pictures = {"Faces and their maps": sheet, **pictures}
    knowledge = Knowledge.load(prepared.files["knowledge"])
    plot_conditional(knowledge.cooccurrence, out / "cooccurrence.png", "P: how often j goes with i")
    pictures["What goes with what"] = out / "cooccurrence.png"
    (out / "report.html").write_text(page(results, pictures, knowledge), encoding="utf-8")


def maps(path: Path, prepared: Prepared, count: int = 6) -> Path | None:
    """The first faces of the training data that have a map."""
    samples = [s for s in json.loads(prepared.files["train"].read_text()) if s.get("face_map")][:count]
    if not samples:
        return None
    folder = prepared.image_folder
    rows = [(open_image(folder / s["image"]), read_map(folder / s["face_map"])) for s in samples]
    titles = [", ".join(k for k, v in s["face_attributes"].items() if v) for s in samples]
    return contact_sheet(rows, path, titles)


def curves(path: Path, runs: list[dict[str, Any]]) -> Path:
    """Loss parts over the steps, off and on, as running means; steps without a labelled face are left out."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    titles = ("L_lm (answers)", "L_bce (attributes)", "L_c (rules)")
    for axis, key, title in zip(axes, ("loss_lm", "loss_bce", "loss_logic"), titles, strict=True):
        for run in (r for r in runs if r["seed"] == 0):
            entries = [{"loss_lm": e["loss"], **e} for e in run["curve"]]
            labelled = [e for e in entries if key == "loss_lm" or e.get("loss_bce")]
            if labelled:
                steps = smooth(np.array([e["step"] for e in labelled]))
                colour = {"off": "#888888", "on": "#1f6fb4"}[run["mode"]]
                label = f"face mode {run['mode']}"
                axis.plot(steps, smooth(np.array([e[key] for e in labelled])), color=colour, label=label)
        axis.set_title(title)
        axis.set_xlabel("step")
    axes[0].set_yscale("log")
    axes[0].legend()
    figure.savefig(path, dpi=130)
    return path


def smooth(values: np.ndarray, window: int = 25) -> np.ndarray:
    """Means over ``window`` neighbouring steps (fewer where a run is shorter)."""
    window = min(window, len(values))
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def page(results: dict[str, Any], pictures: dict[str, Path], knowledge: Knowledge) -> str:
    """The report as HTML; pictures are referred to by name."""
    rows = "".join(
        f"<tr><td>{html.escape(row['label'])}</td><td>{cell(row['off'])}</td><td>{cell(row['on'])}</td>"
        f"<td>{'' if row['ratio'] is None else format(row['ratio'], '.3f')}</td></tr>"
        for row in results["rows"]
    )
    protocol = "".join(
        f"<tr><td>{html.escape(k)}</td><td style='text-align:left'>{html.escape(str(v))}</td></tr>"
        for k, v in results["protocol"].items()
    )
    images = "".join(f"<h2>{title}</h2><img src='{path.name}' alt='{title}'>" for title, path in pictures.items())
    rules = "".join(
        f"<li>{html.escape(r.text())} <span class='note'>{r.weight:.3f}</span></li>" for r in knowledge.rules
    )
    return (
        f"<!doctype html><meta charset='utf-8'><title>face mode, off and on</title><style>{STYLE}</style>"
        f"<h1>LLaVA with face mode off and on</h1>"
        f"<p>LLaVA's own scripts, unmodified; same data, seeds and starting weights.</p>"
        f"<table><tr><th></th><th>off</th><th>on</th><th>on / off</th></tr>{rows}</table>"
        f"{groups(results['runs'])}"
        f"<h2>Protocol</h2><table>{protocol}</table>{images}"
        f"<h2>Rules and their weights</h2><ul>{rules}</ul>"
    )


def groups(runs: list[dict[str, Any]]) -> str:
    """Accuracy by group, mean over the runs of each mode; empty where the data has no such group."""
    names = sorted({name for run in runs for name in run["groups"]})
    if not names:
        return ""
    rows = ""
    for name in names:
        cells = ""
        for mode in ("off", "on"):
            values = [run["groups"][name] for run in runs if run["mode"] == mode and name in run["groups"]]
            cells += f"<td>{np.mean(values):.3f}</td>" if values else "<td>–</td>"
        rows += f"<tr><td>{html.escape(name)}</td>{cells}</tr>"
    return f"<h2>Accuracy by group</h2><table><tr><th></th><th>off</th><th>on</th></tr>{rows}</table>"


def cell(value: dict[str, float | None]) -> str:
    """Mean and spread as text."""
    mean, sd = value["mean"], value["sd"]
    if mean is None:
        return "–"
    text = f"{mean:,.0f}" if mean >= 1000 else f"{mean:.3f}"
    return text + (f" ± {sd:.3f}" if sd is not None else "")
