"""A knowledge file as pictures and one HTML page that needs nothing beside it. Extras ``plots`` and ``knowledge``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..errors import FaceDataError
from ..maps.files import atomic_path
from ..reports.page import html_page, html_picture, html_table
from . import plots
from .cooccurrence import Cooccurrence
from .file import Knowledge
from .graph import edges
from .summary import FLOOR, STRONGEST, attributes, pairs, rule_report

_NOTE = (
    "These are counts of labels: of what the annotators of this data set wrote down. They describe the data set, not "
    "people, and rules that link attributes to gender describe how it was annotated."
)


def write_report(knowledge: Knowledge, out: Path, tau: float = 0.4) -> list[Path]:
    """Write priors, conditional, graph and violations as PNG, and ``report.html``, into the folder ``out``.

    Returns the files; ``violations.png`` is left out where there are no rules. The page has the pictures in it,
    no scripts, and refers to nothing outside. Raises ``FaceConfigError`` for a wrong ``tau``, ``FaceDataError`` for
    a rule report that this package has not written, ``FaceHostError`` if matplotlib or networkx is absent.
    """
    counts, rules = knowledge.cooccurrence, rule_report(knowledge)
    kept_edges = edges(counts, tau, FLOOR)
    limit = max_rate(knowledge)
    where = f"{_dataset(knowledge)}, split {_split(knowledge)!r}, {counts.rows:,} rows"
    titled = {
        "priors": f"How frequent each attribute is: {where}",
        "conditional": f"How often j goes with i: {where}",
        "graph": f"The graph after tau = {tau:g}: {where}",
        "violations": f"How often each rule is broken: {where}",
    }
    if not rules:
        del titled["violations"]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    files = {name: out / f"{name}.png" for name in titled}
    plots.plot_priors(counts, files["priors"], titled["priors"])
    plots.plot_conditional(counts, files["conditional"], titled["conditional"])
    plots.plot_graph(kept_edges, counts.vocabulary, files["graph"], titled["graph"], counts.prior())
    if rules:
        plots.plot_violations(rules, limit, files["violations"], titled["violations"])
    pictures = {name: html_picture(path, titled[name]) for name, path in files.items()}
    text = _page(knowledge, rules, pictures, tau, sum(map(len, kept_edges.values())))
    page = out / "report.html"
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return [*files.values(), page]


def max_rate(knowledge: Knowledge) -> float:
    """The violation rate above which this file's rules were dropped. Raises ``FaceDataError`` for no number."""
    rate = knowledge.meta.get("max_rate", 0.02)
    if not isinstance(rate, (int, float)):
        raise FaceDataError(f"the knowledge's max_rate is {rate!r:.40}; expected a number")
    return float(rate)


def _page(
    knowledge: Knowledge, rules: Sequence[Mapping[str, Any]], pictures: Mapping[str, str], tau: float, arrows: int
) -> str:
    kept = sum(rule["kept"] for rule in rules)
    name = escape(_dataset(knowledge))
    dropped = f"{len(rules) - kept} dropped, because more than {100 * max_rate(knowledge):g} % of the rows break them"
    rule_part = pictures.get("violations", "") + _rule_table(rules) if rules else "<p>None.</p>"
    body = f"""<h1>Facial knowledge: {name}</h1>
<p>{escape(_protocol(knowledge, tau))}</p><p class="note">{escape(_NOTE)}</p>
{_facts(knowledge)}
<h2>Attributes</h2>{_vocabulary_table(knowledge)}{pictures["priors"]}
<h2>What goes with what</h2>{pictures["conditional"]}
<h3>The strongest p(j | i)</h3>{_pair_table(knowledge.cooccurrence)}
<h2>The graph</h2><p>{arrows} edges at tau {tau:g}.</p>{pictures["graph"]}
<h2>Rules</h2><p>{kept} kept, {dropped}.</p>{rule_part}"""
    return html_page(f"Facial knowledge: {_dataset(knowledge)}", body)


def _protocol(knowledge: Knowledge, tau: float) -> str:
    """How the numbers came about, in one line."""
    return (
        f"Counted on split {_split(knowledge)!r} of {_dataset(knowledge)}, {knowledge.cooccurrence.rows:,} rows, "
        "unknown labels left out of every count; p(j | i) = m_ij / n_i; intervals: Wilson, 95 %; an edge needs "
        f"p(j | i) >= {tau:g} and {FLOOR} rows; a rule's weight is its own times 1 - violation rate."
    )


def _facts(knowledge: Knowledge) -> str:
    """Everything the file says about itself, but for the rules."""
    rows = [("rows", f"{knowledge.cooccurrence.rows:,}"), ("attributes", str(len(knowledge.vocabulary)))]
    for key, value in knowledge.meta.items():
        if key not in ("rule_report", "rows"):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            rows.append(({"created_by": "plugin version"}.get(key, key.replace("_", " ")), text))
    return html_table(("about the file", ""), rows)


def _vocabulary_table(knowledge: Knowledge) -> str:
    rows = [
        (
            row["name"],
            row["prompt"],
            f"{row['n']:,}",
            f"{row['known']:,}",
            _percent(row["prior"] if row["known"] else None),
        )
        for row in attributes(knowledge)
    ]
    return html_table(("attribute", "prompt", "#n_i", "#known", "#prior"), rows)


def _pair_table(counts: Cooccurrence) -> str:
    rows = [
        (row["given"], row["then"], _percent(row["p"]), _interval(*row["interval"]), f"{row['joint']:,}",
         f"{row['n']:,}", _percent(row["prior"]))
        for row in pairs(counts, STRONGEST)
    ]  # fmt: skip
    return html_table(("given i", "also j", "#p(j | i)", "#95 % interval", "#m_ij", "#n_i", "#p(j)"), rows)


def _rule_table(rules: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for rule in rules:
        bounds = rule["interval"]
        interval = _interval(bounds[0], bounds[1], 3) if bounds else "-"
        rows.append(
            (rule["rule"], str(rule["group"]), rule["source"], f"{rule['applicable']:,}", f"{rule['violated']:,}",
             _percent(rule["rate"], 3), interval, f"{rule['weight']:.4f}",
             "kept" if rule["kept"] else "dropped")
        )  # fmt: skip
    head = ("rule", "group", "source", "#applies to", "#broken by", "#rate", "#95 % interval", "#weight", "")
    return html_table(head, rows)


def _dataset(knowledge: Knowledge) -> str:
    return str(knowledge.meta.get("dataset", "unnamed data set"))


def _split(knowledge: Knowledge) -> str:
    return str(knowledge.meta.get("split", "unknown"))


def _interval(low: float, high: float, digits: int = 2) -> str:
    return f"{_percent(low, digits)} – {_percent(high, digits)}"


def _percent(share: float | None, digits: int = 2) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f} %"
