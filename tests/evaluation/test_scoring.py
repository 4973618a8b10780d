"""The seam to lmms-eval: prompts, records, and figures that equal scikit-learn's on the same answers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation import aggregations, scoring
from llava_face_plugin.evaluation.metrics.clusters import Clusters
from llava_face_plugin.evaluation.scoring import ITEMS, Record, record, scorer

SETS = ("YES_NO", "CHOICE", "AGE", "PAIRS", "SIMILARITY")


def doc(**more: Any) -> dict[str, Any]:
    return {
        "question_id": "1:q", "image_id": "1", "cluster": "p1", "images": ["1.png"], "video": "", "kind": "yes_no",
        "question": "Is the person smiling?", "options": [], "answer": ["yes"], "topic": "Smiling", "fold": -1,
        "image_root": "/images", "groups": {"sex": "f"}, **more,
    }  # fmt: skip


CHOICE = doc(kind="choice", options=["happy", "sad", "angry"], answer=["B"], topic="expression", question="Which?")


def test_the_prompt_is_question_options_and_hint() -> None:
    assert scoring.doc_to_text(doc(), {"pre_prompt": "<", "post_prompt": " Answer yes or no."}) == (
        "<Is the person smiling? Answer yes or no."
    )
    assert scoring.doc_to_text(CHOICE, {"post_prompt": "!"}) == "Which?\nA. happy\nB. sad\nC. angry!"
    assert scoring.doc_to_text(CHOICE, {"options": "inline"}) == "Which? Choose one: happy, sad, angry."


def test_messages_hold_the_pictures_then_the_same_text(tmp_path: Path) -> None:
    for name, color in (("1.png", (255, 0, 0)), ("2.png", (0, 0, 255))):
        Image.new("RGB", (4, 3), color).save(tmp_path / name)
    pair = doc(images=["1.png", "2.png"], image_root=str(tmp_path))
    (message,) = scoring.doc_to_messages(pair, {"post_prompt": " Yes?"})
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["image", "image", "text"] and message["content"][2]["text"] == "Is the person smiling? Yes?"
    assert [part["url"].getpixel((0, 0)) for part in message["content"][:2]] == [(255, 0, 0), (0, 0, 255)]
    clip = doc(images=[], video="a.mp4")
    assert scoring.doc_to_messages(clip)[0]["content"][0] == {"type": "video", "url": "/images/a.mp4"}


def test_a_broken_picture_is_named_with_its_question(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(FaceDataError, match=r"question 1:q: .*1\.png"):
        scoring.doc_to_visual(doc(image_root=str(tmp_path)))


@pytest.mark.parametrize(
    ("asked", "answer", "gold", "pred", "score"),
    [
        (doc(), "Yes.", "yes", "yes", 1),
        (doc(), "No", "yes", "no", 0),
        (doc(), "", "yes", None, 0),
        (CHOICE, "B", "sad", "sad", 1),
        (CHOICE, "happy", "sad", "happy", 0),
        (doc(kind="number", answer=["30"], topic="age"), "34", 30.0, 34.0, 1),
        (doc(kind="number", answer=["30"], topic="age"), "36", 30.0, 36.0, 0),
        (doc(kind="number", answer=["100"], topic="similarity"), "80", 100.0, 80.0, 1),
        (doc(kind="number", answer=["0"], topic="similarity"), "80", 0.0, 80.0, 0),
        (doc(kind="labels", answer=["AU2", "AU1"], options=["AU1", "AU2", "AU4"]), "AU1, AU2", ("AU1", "AU2"),
         ("AU1", "AU2"), 1),
    ],
)  # fmt: skip
def test_a_record(asked: dict[str, Any], answer: str, gold: Any, pred: Any, score: float) -> None:
    made = record(asked, answer)
    assert (made["gold"], made["pred"], made["score"], made["unparsed"]) == (gold, pred, score, float(pred is None))
    assert (made["cluster"], made["groups"], made["question_id"]) == ("p1", {"sex": "f"}, "1:q")


def test_every_metric_of_every_set_has_an_item_and_an_aggregation() -> None:
    for name in SETS:
        metrics = getattr(scoring, name)
        assert sum(ITEMS[m] is scoring._whole for m in metrics) == 1, name
        assert list(scorer(*metrics)(doc(), ["yes"])) == list(metrics)
    with pytest.raises(FaceDataError, match="face_ac"):
        scorer("face_ac")


def records(n: int, classes: tuple[str, ...], topics: tuple[str, ...], seed: int) -> list[Record]:
    rng = random.Random(seed)
    out = []
    for i in range(n):
        gold = rng.choice(classes)
        pred = rng.choice((gold, gold, *classes, None))
        out.append({
            "question_id": str(i), "image_id": str(i // len(topics)), "cluster": f"p{i // 10}",
            "topic": topics[i % len(topics)], "gold": gold, "pred": pred, "score": float(pred == gold),
            "unparsed": float(pred is None), "refused": 0.0, "groups": {"sex": rng.choice(("f", "m", ""))},
            "fold": i % 10,
        })  # fmt: skip
    return out


def value(metric: str, made: list[Record]) -> float:
    return getattr(aggregations, metric)([ITEMS[metric](r) for r in made])


@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_scikit_learns(seed: int) -> None:
    sk = pytest.importorskip("sklearn.metrics")
    made = records(600, ("yes", "no"), ("A", "B", "C"), seed)
    gold, pred = [r["gold"] for r in made], [r["pred"] or "none" for r in made]
    assert value("face_acc_score", made) == pytest.approx(sk.accuracy_score(gold, pred), abs=1e-12)
    by_topic = [[(r["gold"], r["pred"] or "none") for r in made if r["topic"] == t] for t in "ABC"]
    # "none" is a class of its own for scikit-learn: it lowers recall, and is no false "yes"
    f1 = [sk.f1_score(*zip(*rows, strict=True), labels=["yes"], average=None)[0] for rows in by_topic]
    recall = [sk.recall_score(*zip(*rows, strict=True), labels=["no", "yes"], average="macro") for rows in by_topic]
    assert value("face_f1", made) == pytest.approx(np.mean(f1), abs=1e-12)
    assert value("face_balanced_acc", made) == pytest.approx(np.mean(recall), abs=1e-12)

    made = records(600, ("a", "b", "c"), ("expression",), seed)
    gold, pred = [r["gold"] for r in made], [r["pred"] or "none" for r in made]
    labels = ["a", "b", "c"]
    assert value("face_uar", made) == pytest.approx(sk.recall_score(gold, pred, labels=labels, average="macro"))
    assert value("face_macro_f1", made) == pytest.approx(sk.f1_score(gold, pred, labels=labels, average="macro"))


def test_groups_by_hand() -> None:
    made = [
        {"groups": {"sex": sex, "race": ""}, "cluster": f"{sex}{i}", "score": float(i < right)}
        for sex, right in (("f", 15), ("m", 24)) for i in range(30)
    ]  # fmt: skip
    assert value("face_worst_group", made) == 0.5 and value("face_group_gap", made) == pytest.approx(0.3)
    assert np.isnan(value("face_worst_group", made[:10])), "ten people are no group"


def test_majority_by_hand() -> None:
    made = [{"topic": t, "gold": g, "pred": "yes"} for t, g in (("A", "yes"), ("A", "yes"), ("A", "no"), ("B", "no"))]
    assert value("face_majority", made) == 3 / 4


def test_ages_by_hand() -> None:
    made = [
        {"gold": 30.0, "pred": 34.0, "cluster": "a", "groups": {}},
        {"gold": 20.0, "pred": None, "cluster": "b", "groups": {}},  # as bad as an age can be: 120 - 20
        {"gold": 50.0, "pred": 40.0, "cluster": "c", "groups": {}},
    ]
    assert value("face_mae", made) == pytest.approx((4 + 100 + 10) / 3)
    assert value("face_mae_parsed", made) == 7.0
    assert value("face_cs5_score", made) == pytest.approx(1 / 3)
    assert value("face_mae_low", made) >= 4.0 and value("face_mae_high", made) <= 100.0


def test_similarities_by_hand() -> None:
    made = [{"gold": g, "pred": p} for g, p in ((100.0, 90.0), (100.0, 60.0), (0.0, 70.0), (0.0, 10.0))]
    assert value("face_auc", made) == 0.75 and value("face_eer", made) == 0.5


@pytest.mark.parametrize("metric", ["face_balanced_acc", "face_f1", "face_uar"])
def test_intervals_equal_a_bootstrap_of_the_figure(metric: str) -> None:
    """Rows drawn by hand on the draws of the bootstrap, and the figure's own aggregation of them."""
    made = records(240, ("a", "b", "c") if metric == "face_uar" else ("yes", "no"), ("A", "B"), 3)
    clusters = Clusters([r["cluster"] for r in made])
    drawn = [
        value(metric, [made[row] for row in clusters.rows(draw).tolist()])
        for batch in clusters.draws(2000, 0) for draw in batch
    ]  # fmt: skip
    ends = [value(f"{metric}_{end}", made) for end in ("low", "high")]
    assert ends == pytest.approx(np.quantile(drawn, (0.025, 0.975)).tolist(), abs=1e-9)
    assert ends[0] < value(metric, made) < ends[1]


def test_the_interval_of_an_error_rate() -> None:
    rng = random.Random(0)
    made = [
        {"gold": 100.0 * (i % 2), "pred": rng.choice((None, rng.gauss(40 + 20 * (i % 2), 15))), "cluster": f"p{i // 3}"}
        for i in range(180)
    ]  # fmt: skip
    low, high = (value(f"face_eer_{end}", made) for end in ("low", "high"))
    assert 0 < low < value("face_eer", made) < high < 1 and 0.05 < high - low < 0.5


def test_one_cluster_has_no_interval() -> None:
    made = [{**r, "cluster": "p"} for r in records(20, ("yes", "no"), ("A",), 0)]
    for metric in ("face_acc", "face_score", "face_balanced_acc", "face_f1", "face_uar"):
        assert np.isnan(value(f"{metric}_low", made)) and np.isnan(value(f"{metric}_high", made))


def test_order_does_not_matter_nor_a_way_through_json() -> None:
    made = records(300, ("yes", "no"), ("A", "B"), 0)
    shuffled = random.Random(1).sample(made, len(made))
    for metric in (*scoring.YES_NO, *scoring.PAIRS, "face_uar", "face_uar_low", "face_macro_f1"):
        items = json.loads(json.dumps([ITEMS[metric](r) for r in shuffled]))
        assert value(metric, made) == getattr(aggregations, metric)(items), metric
