"""The report: one page that holds everything, shows what the file says, and cannot be made to say more."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.knowledge import Knowledge, Rule, plots
from llava_face_plugin.knowledge.report import write_report
from llava_face_plugin.knowledge.summary import rule_report, strongest

pytest.importorskip("matplotlib", reason="needs the extra plots")
pytest.importorskip("networkx", reason="needs the extra knowledge")

EVIL = "<script>alert('x')</script>&\"$"
NAMES = ("Bald", "Male", EVIL, "never")


class Page(HTMLParser):
    """Tags with their attributes, and the cells of each table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def knowledge() -> Knowledge:
    labels = np.zeros((1000, 4), dtype=np.int8)
    labels[:, 3] = -1
    labels[:100, 0] = labels[10:500, 1] = labels[:600, 2] = 1
    rules = [
        Rule("implication", ("Bald",), ("Male",), group="gender", source=f"sheet {EVIL}"),  # broken by 10 of 100
        Rule("implication", ("Male",), (EVIL,), group="hair"),  # by none of 490
        Rule("implication", ("never",), ("Bald",)),  # applies to no row
    ]
    meta = {"dataset": f"mine {EVIL}", "split": "train", "sources": [{"input": "a.zip", "sha256": "ab" * 32}]}
    return Knowledge.build(NAMES, [labels], rules, 0.02, meta, prompts={EVIL: f"prompt {EVIL}"})


@pytest.fixture(scope="module")
def written(knowledge: Knowledge, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_report(knowledge, tmp_path_factory.mktemp("report") / "new" / "folder", tau=0.3)


def test_files(written: list[Path]) -> None:
    assert [path.name for path in written] == [
        "priors.png", "conditional.png", "graph.png", "violations.png", "report.html",
    ]  # fmt: skip
    assert sorted(path.name for path in written[0].parent.iterdir()) == sorted(path.name for path in written)


def test_the_page_needs_nothing_else_and_runs_nothing(written: list[Path]) -> None:
    text = written[-1].read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []  # every tag is closed
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "form", "base", "svg", "a"}
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert not re.search(r"https?:|url\(|@import", text)
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert [base64.b64decode(s.split(",", 1)[1]) for s in sources] == [p.read_bytes() for p in written[:-1]]
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    assert "prefers-color-scheme" in text and "default-src 'none'" in text


def test_what_the_file_says_is_escaped_and_there(written: list[Path], knowledge: Knowledge) -> None:
    text = written[-1].read_text(encoding="utf-8")
    assert EVIL not in text and "<script" not in text
    page = Page(text)
    rows = {row[0]: row for row in page.rows}
    assert rows["rows"][1] == "1,000" and rows["split"][1] == "train" and rows["dataset"][1] == f"mine {EVIL}"
    assert "ab" * 32 in rows["sources"][1] and "llava_face_plugin" in rows["plugin version"][1]
    assert rows["max rate"][1] == "0.02"
    words = " ".join(page.words)
    assert "split 'train'" in words and "1,000 rows" in words and "annotators" in words
    assert [EVIL, f"prompt {EVIL}", "600", "1,000", "60.00 %"] in page.rows
    assert ["never", "never", "0", "0", "-"] in page.rows
    pair = next(row for row in page.rows if row[:2] == ["Bald", "Male"])
    assert pair[2:] == ["90.00 %", "82.56 % – 94.48 %", "90", "100", "49.00 %"]  # Wilson's interval of 90 of 100


def test_rules_with_their_counts_and_fate(written: list[Path], knowledge: Knowledge) -> None:
    rows = {row[0]: row for row in Page(written[-1].read_text(encoding="utf-8")).rows}
    assert rows["Bald => Male"][1:] == [
        "gender", f"sheet {EVIL}", "100", "10", "10.000 %", "5.523 % – 17.437 %", "0.0000", "dropped",
    ]  # fmt: skip
    assert rows[f"Male => {EVIL}"][3:6] == ["490", "0", "0.000 %"] and rows[f"Male => {EVIL}"][-1] == "kept"
    assert rows["never => Bald"][3:] == ["0", "0", "-", "-", "1.0000", "kept"]
    assert "2 kept, 1 dropped, because more than 2 %" in written[-1].read_text(encoding="utf-8")


def test_the_pictures_name_the_split(knowledge: Knowledge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    save = plots.save
    monkeypatch.setattr(plots, "save", lambda figure, path: (figures.append(figure), save(figure, path)))
    write_report(knowledge, tmp_path)
    titles = [figure.get_suptitle() or figure.axes[0].get_title() for figure in figures]
    assert len(titles) == 4 and all("split 'train', 1,000 rows" in title for title in titles)


def test_the_strongest_come_first_and_need_the_floor(knowledge: Knowledge) -> None:
    counts = knowledge.cooccurrence
    pairs = strongest(counts)
    p = [counts.conditional()[i, j] for i, j in pairs]
    assert p == sorted(p, reverse=True) and len(pairs) == 6 and all(i != j for i, j in pairs)
    assert strongest(counts, most=1) == [(0, 2)]  # every bald row has the third attribute
    assert {i for i, _ in strongest(counts, floor=101)} == {1, 2}


def test_a_file_of_an_earlier_version_and_one_without_rules(knowledge: Knowledge, tmp_path: Path) -> None:
    old = [{key: row[key] for key in ("rule", "group", "violated", "applicable", "rate", "kept")}
           for row in knowledge.meta["rule_report"]]  # fmt: skip
    earlier = Knowledge(knowledge.cooccurrence, knowledge.rules, knowledge.prompts, {"rule_report": old})
    assert [row["interval"] for row in rule_report(earlier)] == [row["interval"] for row in rule_report(knowledge)]
    assert [row["weight"] for row in rule_report(earlier)] == [0.0, 1.0, 1.0]
    bare = Knowledge(knowledge.cooccurrence, knowledge.rules, knowledge.prompts)
    assert [(row["rule"], row["rate"]) for row in rule_report(bare)] == [(r.text(), None) for r in knowledge.rules]
    none = Knowledge(knowledge.cooccurrence, [], knowledge.prompts)
    files = write_report(none, tmp_path)
    assert "violations.png" not in [path.name for path in files]
    assert "<p>None.</p>" in files[-1].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "meta",
    [
        {"rule_report": 7}, {"rule_report": ["x"]}, {"rule_report": [{}]},
        {"rule_report": [{"rule": "r", "group": "", "violated": "many", "applicable": 1, "rate": 0.1, "kept": True}]},
        {"max_rate": "low"}, {"max_rate": [1]},
    ],
)  # fmt: skip
def test_a_foreign_rule_report_is_one_error(knowledge: Knowledge, tmp_path: Path, meta: dict[str, Any]) -> None:
    broken = Knowledge(knowledge.cooccurrence, knowledge.rules, knowledge.prompts, meta)
    with pytest.raises(FaceDataError, match=r"rule_report|max_rate"):
        write_report(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_tau_is_refused(knowledge: Knowledge, tmp_path: Path) -> None:
    with pytest.raises(FaceConfigError, match="tau is 2"):
        write_report(knowledge, tmp_path / "out", tau=2)
