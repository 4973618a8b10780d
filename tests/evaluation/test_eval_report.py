"""Result folders and their report: figures made again, comparisons, pages, and files that are not what they were."""

from __future__ import annotations

import base64
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from eval_samples import YES, index, lmms_output, write_questions, write_result
from file_damage import all_damaged

from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.evaluation.compare import compare, holm
from llava_face_plugin.evaluation.questions import load_questions
from llava_face_plugin.evaluation.report import Report, make_report, write_report
from llava_face_plugin.evaluation.results import RESULTS, RUN, SAMPLES, read_result
from llava_face_plugin.evaluation.summary import breakdowns, summarise


def mixed(doc: dict[str, Any]) -> str:
    """Right and wrong answers, refusals and nonsense, the same for the same question."""
    return random.Random(doc["question_id"]).choice(["yes", "no", "No.", "Yes", "I cannot say", "", "maybe"])


def right(doc: dict[str, Any]) -> str:
    return doc["answer"][0]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"), images=90)


def report_of(*folders: Path, names: list[str] | None = None) -> Report:
    return make_report(list(folders), names, index())


def test_figures_are_scikit_learns(questions: Path, tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    summary = report_of(write_result(tmp_path / "a", questions, mixed)).models[0].summaries[0]
    docs = load_questions(questions)[1].to_pylist()
    # A reading of our own of the six answers above.
    read = [{"yes": "yes", "no": "no"}.get(mixed(d).lower().strip("."), "unread") for d in docs]
    gold = [d["answer"][0] for d in docs]
    assert summary.score == pytest.approx(metrics.accuracy_score(gold, read))
    assert summary.unparsed == pytest.approx(read.count("unread") / len(read))
    by_topic = {}
    for topic in ("Smiling", "Bald"):
        rows = [i for i, d in enumerate(docs) if d["topic"] == topic]
        g, p = [gold[i] for i in rows], [read[i] for i in rows]
        by_topic[topic] = (metrics.accuracy_score(g, p), metrics.f1_score(g, p, labels=["yes"], average="macro"))
    topics = {row.name: (row.score, row.f1) for b in summary.breakdowns if b.kind == "topic" for row in b.rows}
    assert topics.keys() == by_topic.keys()
    for topic, values in by_topic.items():
        assert topics[topic] == pytest.approx(values)
    assert summary.figures["face_f1"] == pytest.approx(sum(f1 for _, f1 in by_topic.values()) / 2)
    assert summary.low < summary.score < summary.high


def test_groups_worst_and_gap_by_hand(questions: Path, tmp_path: Path) -> None:
    """Images of odd number are left: all of them right, the others always answered yes (a third is right)."""
    out = write_result(tmp_path / "a", questions, lambda d: right(d) if int(d["image_id"]) % 2 else "yes")
    summary = report_of(out).models[0].summaries[0]
    groups = {row.name: (row.score, row.n, row.clusters) for row in summary.breakdowns[0].rows}
    assert groups == {"left": (1.0, 90, 45), "right": (pytest.approx(1 / 3), 90, 45)}
    assert (summary.worst.column, summary.worst.group, summary.worst.value) == ("side", "right", pytest.approx(1 / 3))
    assert summary.gap.value == pytest.approx(2 / 3)
    assert summary.clusters == 45 and summary.n == 180 and summary.majority == pytest.approx(2 / 3)


def test_groups_stand_in_the_order_of_their_numbers(questions: Path, tmp_path: Path) -> None:
    ages = ("60-69", "3-9", "10-19", "more than 70", "0-2")

    def change(results: dict, samples: list[dict]) -> None:
        for i, sample in enumerate(samples):
            for item in sample.values():
                if isinstance(item, dict):
                    item["groups"] = {"age": ages[i % 5]}

    result = read_result(write_result(tmp_path / "a", questions, YES, change=change) / "face_made")
    (groups, *_) = breakdowns(result.output.records)
    assert [row.name for row in groups.rows] == ["0-2", "3-9", "10-19", "60-69", "more than 70"]


def test_the_second_model_is_better(questions: Path, tmp_path: Path) -> None:
    worse, better = (
        write_result(tmp_path / "worse", questions, YES),
        write_result(tmp_path / "better", questions, right),
    )
    (found,) = report_of(worse, better).comparisons
    assert (found.first, found.second) == ("worse", "better")
    assert found.difference == pytest.approx(2 / 3) and found.low > 0.5 and found.p < 0.01
    (found,) = report_of(better, worse).comparisons
    assert found.difference == pytest.approx(-2 / 3) and found.high < -0.5
    (found,) = report_of(worse, write_result(tmp_path / "same", questions, YES)).comparisons
    assert (found.difference, found.p, found.p_holm) == (0.0, 1.0, 1.0)


def test_ages_are_compared_by_their_errors(tmp_path: Path) -> None:
    """One model is always 10 years off, the other 8, but refuses one face of twenty: 80 years at worst."""
    from llava_face_plugin.evaluation.questions import Header, Question, save_questions

    asked = [
        Question(f"{i:02d}", f"{i:02d}", ("a.png",), "number", "How old?", ("40",), "age") for i in range(40)
    ]  # fmt: skip
    path = tmp_path / "face_agedb_age.parquet"
    save_questions(path, Header("face_agedb_age", "agedb", "all", 0, str(tmp_path)), asked)
    a = write_result(tmp_path / "a", path, lambda d: "50", "face_agedb_age")
    b = write_result(tmp_path / "b", path, lambda d: "no idea" if d["question_id"] < "02" else "48", "face_agedb_age")
    report = report_of(a, b)
    (found,) = report.comparisons
    assert (found.first_score, found.second_score) == (10.0, pytest.approx((38 * 8 + 2 * 80) / 40))
    assert found.difference == pytest.approx(1.6) and not found.higher_is_better
    assert found.first_score == report.models[0].summaries[0].figures["face_mae"]
    write_report(report, tmp_path / "r", plots=False)
    assert "face\\_mae (years: less is better)" in (tmp_path / "r" / "report.md").read_text()


def test_holm_by_hand() -> None:
    # Sorted: .01 x 4, .02 x 3, .03 x 2, .5 x 1, none below the one before it.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_other_questions_are_not_compared(questions: Path, tmp_path: Path) -> None:
    a = write_result(tmp_path / "a", questions, YES)
    other = write_result(tmp_path / "b", write_questions(tmp_path / "q", images=10), YES)
    with pytest.raises(FaceDataError, match="face_made: a and b were asked different questions"):
        report_of(a, other)
    limited = write_result(tmp_path / "c", questions, YES, limit=20)
    with pytest.raises(FaceDataError, match=r"limit 20\): run both with the same limit"):
        report_of(a, limited)


def test_tasks_that_one_model_lacks_are_named(questions: Path, tmp_path: Path) -> None:
    celeba = write_questions(tmp_path / "q", "face_celeba", images=30)
    a = write_result(tmp_path / "a", questions, YES)
    write_result(a, celeba, mixed, "face_celeba")
    b = write_result(tmp_path / "b", questions, right)
    report = report_of(a, b)
    assert [c.task for c in report.comparisons] == ["face_made"]
    assert "only one of a and b has them: face_celeba" in report.notes[-1]


def test_aggregates_are_unweighted_and_whole(questions: Path, tmp_path: Path) -> None:
    from llava_face_plugin.evaluation.report import aggregates
    from llava_face_plugin.evaluation.task_index import TaskIndex

    celeba = write_questions(tmp_path / "q", "face_celeba", images=30)
    a = write_result(tmp_path / "a", questions, right)
    write_result(a, celeba, YES, "face_celeba")
    summaries = report_of(a).models[0].summaries
    groups = TaskIndex(
        {name: Path() for name in ("face_made", "face_celeba", "face_lfwa")},
        {"both": ["face_made", "face_celeba"], "all": ["both", "face_lfwa"], "one": ["face_made"]},
    )
    found = {g.group: g for g in aggregates(summaries, groups)}
    assert found.keys() == {"both", "all"}
    assert found["both"].score == pytest.approx((1 + 1 / 3) / 2)
    assert found["all"].score is None and "face_lfwa" in found["all"].why_not


def test_order_of_samples_does_not_matter(questions: Path, tmp_path: Path) -> None:
    """torchrun writes every other sample first."""
    a = write_result(tmp_path / "a", questions, mixed)
    b = write_result(tmp_path / "b", questions, mixed, change=lambda r, s: s.sort(key=lambda x: x["doc_id"] % 2))
    assert (a / "face_made" / SAMPLES).read_text() != (b / "face_made" / SAMPLES).read_text()
    one, other = (report_of(folder).models[0].summaries[0] for folder in (a, b))
    assert (one.figures, one.breakdowns, one.low) == (other.figures, other.breakdowns, other.low)


def test_lost_and_doubled_samples_are_found(questions: Path, tmp_path: Path) -> None:
    lost = write_result(tmp_path / "lost", questions, mixed, change=lambda r, s: s.__delitem__(slice(3)))
    with pytest.raises(FaceDataError, match=r"in lmms-eval's results, and 0\.\d+ made from its samples"):
        report_of(lost)
    doubled = write_result(tmp_path / "doubled", questions, mixed, change=lambda r, s: s.append(s[0]))
    with pytest.raises(FaceDataError, match=r"samples.jsonl:181: question '000:Smiling' occurs twice"):
        report_of(doubled)


def test_a_changed_figure_is_found(questions: Path, tmp_path: Path) -> None:
    def change(results: dict, samples: list[dict]) -> None:
        results["results"]["face_made"]["face_f1,none"] += 1e-6

    with pytest.raises(FaceDataError, match=r"face_f1 is 0\.\d+ in lmms-eval's results, and 0\.\d+"):
        report_of(write_result(tmp_path / "a", questions, mixed, change=change))


@pytest.mark.parametrize("name", [RUN, RESULTS, SAMPLES])
def test_damaged_files(questions: Path, tmp_path: Path, name: str) -> None:
    """Each is refused with one error that names it; damage that changes nothing of the file's meaning may pass."""
    out = write_result(tmp_path / "a", write_questions(tmp_path / "q", images=6), mixed)
    file = out / "face_made" / name
    whole = summarise(read_result(out / "face_made"), index().task("face_made"))
    data, refused = file.read_bytes(), 0
    for bad in all_damaged(data, 67):
        file.write_bytes(bad)
        try:
            found = summarise(read_result(out / "face_made"), index().task("face_made"))
        except FaceDataError as error:
            assert "face_made" in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert name == RUN, "samples and results are signed"
            assert found.figures == whole.figures
    assert refused == 67 if name != RUN else refused > 30


@pytest.mark.parametrize(
    ("key", "value"),
    [("score", None), ("score", float("nan")), ("score", True), ("score", 10**400), ("unparsed", 2), ("groups", []),
     ("groups", {"a": 1}), ("cluster", 3), ("topic", "\ud800"), ("question_id", None)],
    ids=lambda value: ascii(value)[:12],
)  # fmt: skip
def test_a_bad_record_names_its_line(questions: Path, tmp_path: Path, key: str, value: Any) -> None:
    def change(results: dict, samples: list[dict]) -> None:
        samples[4]["face_acc_score"] = {**samples[4]["face_acc_score"], key: value}
        if value == "\ud800":
            samples[4]["face_acc_score"][key] = "half"

    out = write_result(tmp_path / "a", questions, YES, change=change)
    file = out / "face_made" / SAMPLES
    file.write_text(file.read_text().replace('"half"', '"\\ud800"'))
    with pytest.raises(FaceDataError, match=rf"samples.jsonl:5: {key} is "):
        read_result(out / "face_made")


def test_nothing_and_names(questions: Path, tmp_path: Path) -> None:
    a, b = write_result(tmp_path / "x" / "run", questions, YES), write_result(tmp_path / "y" / "run", questions, YES)
    with pytest.raises(FaceDataError, match="no results in it"):
        report_of(tmp_path)
    with pytest.raises(FaceDataError, match="no such folder"):
        report_of(tmp_path / "absent")
    with pytest.raises(FaceConfigError, match="--names must tell them apart"):
        report_of(a, b)
    with pytest.raises(FaceConfigError, match="1 names for 2"):
        report_of(a, b, names=["a"])
    with pytest.raises(FaceConfigError, match="named twice"):
        report_of(a, a, names=["a", "b"])
    assert report_of(a, b, names=["a", "b"]).models[1].name == "b"


def test_the_files_of_a_report(questions: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    evil = '<script>alert(1)</script>|"&$x^$'

    def rename(results: dict, samples: list[dict]) -> None:
        for sample in samples:
            for item in sample.values():
                if isinstance(item, dict) and item.get("topic") == "Bald":
                    item["topic"] = evil

    a = write_result(tmp_path / "a", questions, mixed, change=rename)
    b = write_result(tmp_path / "b", questions, right, change=rename)
    report = report_of(a, b, names=["<b>first</b>", "second"])
    files = write_report(report, tmp_path / "report")
    assert {f.name for f in files} == {
        "report.json", "report.md", "report.html", "overview.png", "comparison.png", "face_made_group_side.png",
        "face_made_topic_topic.png",
    }  # fmt: skip
    html = (tmp_path / "report" / "report.html").read_text()
    assert "<script" not in html and "<b>first" not in html and "&lt;script&gt;" in html
    assert not re.search(r'(?:src|href)="(?!data:)', html)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert len(pictures) == 4 and all(base64.b64decode(p).startswith(b"\x89PNG") for p in pictures)
    text = (tmp_path / "report" / "report.md").read_text()
    assert "<script" not in text and all(line.count(" | ") > 1 for line in text.splitlines() if line.startswith("| "))
    values = json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=pytest.fail)
    summary = values["models"][1]["summaries"][0]
    assert summary["score"] == 1.0 and summary["info"]["questions"]["digest"] in json.dumps(values)
    assert values["comparisons"][0]["second"] == "second"
    for shown in (html, text):
        assert (
            "not a result" not in shown
            and values["models"][0]["summaries"][0]["info"]["questions"]["digest"][:12] in shown
        )


def test_a_limit_is_no_result(questions: Path, tmp_path: Path) -> None:
    files = write_report(report_of(write_result(tmp_path / "a", questions, YES, limit=40)), tmp_path / "r", plots=False)
    assert [f.name for f in files] == ["report.json", "report.md", "report.html"]
    for file in files[1:]:
        assert "not a result (--limit)" in file.read_text() and "NOT A RESULT" in file.read_text()


def test_a_figure_that_is_no_mean_has_an_interval_of_its_own(tmp_path: Path) -> None:
    """Similarities: the error rate is the main figure, the mean score is another."""
    from llava_face_plugin.evaluation.questions import Header, Question, save_questions

    asked = [
        Question(
            f"p{i:02d}", f"p{i:02d}", ("a.png", "b.png"), "number", "How alike?", ("100" if i % 2 else "0",),
            "similarity", fold=i % 10,
        )
        for i in range(60)
    ]  # fmt: skip
    path = tmp_path / "face_lfw_score.parquet"
    save_questions(path, Header("face_lfw_score", "lfw", "test", 0, str(tmp_path)), asked)
    # Of each kind a tenth on the wrong side of every useful threshold.
    answers = {q.question_id: 70 if (int(q.answer[0]) > 50) != (i % 20 < 2) else 30 for i, q in enumerate(asked)}
    out = write_result(tmp_path / "a", path, lambda d: str(answers[d["question_id"]]), "face_lfw_score")
    summary = report_of(out).models[0].summaries[0]
    assert summary.main == "face_eer" and not summary.higher_is_better
    assert summary.score == pytest.approx(0.1) and summary.mean_score == pytest.approx(0.9)
    assert 0 <= summary.low < 0.1 < summary.high < 0.3
    assert (summary.low, summary.high) == (summary.figures["face_eer_low"], summary.figures["face_eer_high"])
    (found,) = report_of(out, write_result(tmp_path / "b", path, lambda d: "30", "face_lfw_score")).comparisons
    assert found.of == "accuracy at a threshold of 50 (not face_eer)" and found.second_score == 0.5


def test_comparing_keeps_to_the_clusters(questions: Path, tmp_path: Path) -> None:
    """Forty answers about one person are one fact: with two persons no difference is significant."""
    few = write_questions(tmp_path / "q", images=4, topics=[f"t{i}" for i in range(20)])
    a, b = (
        read_result(write_result(tmp_path / name, few, answers) / "face_made")
        for name, answers in (("a", YES), ("b", right))
    )
    (found,), _ = compare(("a", [a]), ("b", [b]))
    assert found.n == 80 and found.clusters == 2 and found.p > 0.4


def test_the_samples_of_these_tests_are_lmms_evals(questions: Path) -> None:
    """Guards the golden files: the keys of a line, as lmms-eval 0.7.3 wrote them in a run by hand."""
    _, samples = lmms_output(questions, "face_made", YES, limit=1)
    assert list(samples[0]["face_acc_score"]) == [
        "question_id", "image_id", "cluster", "topic", "gold", "pred", "score", "unparsed", "refused", "groups", "fold",
    ]  # fmt: skip
