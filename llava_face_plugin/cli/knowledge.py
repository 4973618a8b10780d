"""``llava-face knowledge``: what goes with what, and what must or cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..rulebook import Rule

File = Annotated[Path, typer.Argument(help="Knowledge file.", metavar="K")]
AsJson = Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Adds the command group to ``app``."""
    group = typer.Typer(help="Knowledge files: co-occurrence, graph and rules.", no_args_is_help=True)
    for command in (build, inspect, mine, check, plot):
        group.command(command.__name__)(command)
    app.add_typer(group, name="knowledge")


def build(
    inputs: Annotated[
        list[Path], typer.Argument(help="Manifests (parquet), and knowledge files to add up.", metavar="INPUT...")
    ],
    out: Annotated[Path, typer.Option(help="Knowledge file to write (.safetensors).")],
    rules: Annotated[
        list[str] | None,
        typer.Option(help="Rule file, or built-in rules by name; repeatable. Default: those that fit the data set."),
    ] = None,
    max_rate: Annotated[float, typer.Option(min=0, max=1, help="Drop rules that are broken more often.")] = 0.02,
    mapping: Annotated[
        Path | None, typer.Option(help="YAML or JSON: {data set: {their name: our name, 'not our name' or null}}.")
    ] = None,
    split: Annotated[str, typer.Option(help="Rows to count: train, val, test or all.")] = "train",
    without: Annotated[list[str] | None, typer.Option(help="Leave out a rule group, e.g. gender; repeatable.")] = None,
) -> None:
    """Count labels into a knowledge file. The first input's attribute names are ours, the others are mapped to them.

    Names that --mapping leads to and the first input lacks become ours too: they are unknown in its rows.
    """
    from ..data.knowledge_source import read_source
    from ..errors import FaceDataError
    from ..knowledge.build import build as build_knowledge
    from ..knowledge.vocabularies import load_mapping

    if out.suffix != ".safetensors":
        raise FaceDataError(f"--out {out}: a knowledge file's name ends in .safetensors")
    _check_out(out, inputs)
    mappings = load_mapping(mapping) if mapping is not None else None
    sources = [read_source(path, split) for path in inputs]
    knowledge, notes = build_knowledge(
        sources, rules=rules or (), max_rate=max_rate, mappings=mappings, split=split, without=without or ()
    )
    with _writing(out):
        knowledge.save(out)
    for note in notes:
        typer.echo(f"note: {note}")
    for entry in knowledge.meta["rule_report"]:
        if not entry["kept"]:
            numbers = f"{entry['violated']:,} of {entry['applicable']:,} rows break it, {entry['rate']:.2%}"
            typer.echo(f"dropped: {entry['rule']} ({numbers}; --max-rate {max_rate:g})")
        elif entry["rate"] is None:
            typer.echo(f"note: {entry['rule']} applies to no row: it is kept untested")
    typer.echo(
        f"{out}: {knowledge.cooccurrence.rows:,} rows of {knowledge.meta['dataset']} ({split}), "
        f"{len(knowledge.vocabulary)} attributes, {len(knowledge.rules)} rules"
    )


def inspect(
    knowledge: File,
    tau: Annotated[float, typer.Option(min=0, max=1, help="Threshold of the graph's edges.")] = 0.4,
    top: Annotated[int, typer.Option(min=0, help="Strongest p(j | i) to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what a knowledge file says: attributes, strongest pairs with 95 % intervals, edges, rules.

    --json adds the matrices: joint (m_ij), support (n_i), both (rows where i and j are known) and p.
    """
    from ..knowledge.file import Knowledge
    from ..knowledge.summary import summary

    found = summary(Knowledge.load(knowledge), tau, top)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        _show(knowledge, found)


def mine(
    knowledge: File,
    out: Annotated[Path | None, typer.Option(help="Rule file to write (YAML). Default: print it.")] = None,
    min_support: Annotated[int, typer.Option(min=1, help="Rows in which a rule's antecedent must hold.")] = 200,
    max_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Upper end of the violation rate's 95 % interval.")
    ] = 0.02,
    max_of_chance: Annotated[
        float, typer.Option(min=0, max=1, help="Violations allowed, as a share of those by chance.")
    ] = 0.1,
) -> None:
    """Propose rules of two attributes from the counts of a training split. Read them before you use them."""
    from ..knowledge.file import Knowledge
    from ..knowledge.mine import mine_file
    from ..maps.files import atomic_path

    if out is not None:
        _check_out(out, [knowledge])
    options = {"min_support": min_support, "max_rate": max_rate, "max_of_chance": max_of_chance}
    mined, text = mine_file(Knowledge.load(knowledge), knowledge.name, **options)
    if out is None:
        typer.echo(text, nl=False)
        return
    with _writing(out), atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"{out}: {len(mined.kept)} proposed rules; {mined.folded} more follow from them and its own rules")


def check(
    what: Annotated[
        list[str], typer.Argument(help="Rule files, built-in rules, or knowledge files.", metavar="RULES|K...")
    ],
    as_json: AsJson = False,
) -> None:
    """Can all rules hold at once? Names contradictions, forced attributes, redundant rules. Exit code 1 if not."""
    from ..knowledge.check import consistency

    rules, files = _rules_of(what)
    found = consistency(rules)
    if as_json:
        typer.echo(json.dumps({"rules": [rule.text() for rule in rules], **found.to_dict()}, indent=1))
    else:
        for name in files:  # loading it has checked them
            typer.echo(f"{name}: counts, names, rules and checksum fit together")
        for name, present, because in found.forced:
            typer.echo(f"forced: {name} is {'always there' if present else 'never there'}: {_list(because)}")
        for number, because in found.redundant:
            typer.echo(f"redundant: {rules[number].text()} follows from: {_list(because)}")
        if found.satisfiable:
            typer.echo(f"{len(rules)} rules can all hold")
        else:
            typer.echo(
                f"contradiction, and each of these {len(found.core)} rules is needed for it: {_list(found.core)}"
            )
    if not found.satisfiable:
        raise typer.Exit(1)


def plot(
    knowledge: File,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the HTML report.")],
    tau: Annotated[float, typer.Option(min=0, max=1, help="Threshold of the graph's edges.")] = 0.4,
) -> None:
    """Draw P, the graph after tau and the rules' violation rates, as PNG and as one HTML report."""
    from ..knowledge.file import Knowledge
    from ..knowledge.report import write_report

    loaded = Knowledge.load(knowledge)
    with _writing(out):
        files = write_report(loaded, out, tau)
    for path in files:
        typer.echo(path)


def _check_out(out: Path, inputs: list[Path]) -> None:
    """Raise ``FaceDataError`` for an output that is an input, by whatever name, or a folder."""
    from ..errors import FaceDataError

    if out.is_dir():
        raise FaceDataError(f"--out {out}: this is a folder; name a file in it")
    for path in inputs:
        if out.exists() and path.exists() and out.samefile(path):
            raise FaceDataError(f"--out {out}: this is the input {path}; name another file")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """What keeps ``out`` from being written (no permission, no space, a file for a folder) as one ``FaceDataError``."""
    from ..errors import FaceDataError

    try:
        yield
    except OSError as error:
        raise FaceDataError(f"--out {out}: cannot write: {error}") from error


def _rules_of(what: list[str]) -> tuple[list[Rule], list[str]]:
    """The rules of all files together, and which are knowledge files; the rule files must fit their vocabularies."""
    from ..knowledge.file import Knowledge, is_knowledge
    from ..rulebook import check_rules, load_rules

    files = {name: Knowledge.load(name) for name in what if is_knowledge(name)}
    written = [rule for name in what if name not in files for rule in load_rules(name)]
    for knowledge in files.values():
        check_rules(written, knowledge.vocabulary)
    return written + [rule for knowledge in files.values() for rule in knowledge.rules], list(files)


def _list(rules: tuple[Rule, ...]) -> str:
    return "; ".join(rule.text() for rule in rules)


def _show(path: Path, found: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    console.width = max(console.width, 120)  # most rules on one line

    def table(title: str, names: int, *columns: str) -> Table:
        """The first ``names`` columns are text, which may wrap."""
        made = Table(*columns, title=title, title_justify="left", box=box.SIMPLE)
        for at, column in enumerate(made.columns):
            column.justify, column.no_wrap = ("left", False) if at < names else ("right", True)
        return made

    made = f"{found['dataset']}, {found['split']}, {found['rows']:,} rows; written by {found['created_by']}"
    console.print(f"{path}: {made}", markup=False)
    rows = table(f"{len(found['attributes'])} attributes", 1, "attribute", "n", "known", "prior")
    for a in found["attributes"]:
        rows.add_row(escape(a["name"]), f"{a['n']:,}", f"{a['known']:,}", f"{a['prior']:.4f}")
    console.print(rows)
    rows = table("strongest pairs", 2, "given", "then", "p", "95 % interval", "n")
    for pair in found["pairs"]:
        names = escape(pair["given"]), escape(pair["then"])
        rows.add_row(*names, f"{pair['p']:.4f}", _interval(pair["interval"]), f"{pair['n']:,}")
    console.print(rows)
    number = sum(map(len, found["edges"].values()))
    console.print(f"graph: {number} edges with p >= {found['tau']:g}", markup=False)
    rows = table("rules", 2, "rule", "group", "applies to", "broken", "rate", "95 % interval", "weight")
    for rule in found["rules"]:
        rate = "-" if rule["rate"] is None else f"{rule['rate']:.3%}"
        weight = f"{rule['weight']:.4f}" if rule["kept"] else "dropped"
        numbers = f"{rule['applicable']:,}", f"{rule['violated']:,}", rate, _interval(rule["interval"])
        rows.add_row(escape(rule["rule"]), escape(rule["group"]), *numbers, weight)
    console.print(rows)


def _interval(interval: list[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.2%} to {interval[1]:.2%}"
