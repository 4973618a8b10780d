"""Tasks of each family through lmms-eval itself: figures of a model that always says the same, computed here anew."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import synthetic_sources as sources
from lmms_dummy import run_dummy

from llava_face_plugin.data.manifest_file import load_manifest
from llava_face_plugin.evaluation.builders import BENCHMARKS, build
from llava_face_plugin.evaluation.questions import load_questions
from llava_face_plugin.rulebook import load_rules

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed")
pytest.importorskip("pyarrow", reason="manifests are parquet")

ANSWERS = {
    "face_celeba_consistency": "Yes", "face_fairface_race": "B", "face_insight_ft_fairface_race": "White",
    "face_utkface_age_years": "30", "face_celebamask_hq_presence": "No", "face_agedb_age": "40",
}  # fmt: skip


def test_figures_of_constant_answers(tmp_path: Path) -> None:
    for task in ANSWERS:
        if task in list(BENCHMARKS):
            root, manifest = sources.source_of(BENCHMARKS[task], tmp_path / task)
            build(BENCHMARKS[task], root, tmp_path / "questions", manifest)
    found = run_dummy(ANSWERS, tmp_path)

    race = load_manifest(tmp_path / "face_fairface_race" / "manifest.parquet")
    codes = race.labels["race"][(race.split == 1) & (race.labels["race"] >= 0)]
    white = race.classes["race"].index("White")
    assert found["face_insight_ft_fairface_race"]["face_acc_score"] == pytest.approx(float((codes == white).mean()))
    commonest = max(Counter(codes.tolist()).values()) / len(codes)
    assert found["face_insight_ft_fairface_race"]["face_majority"] == pytest.approx(commonest)
    letters = load_questions(tmp_path / "questions" / "face_fairface_race.parquet")[1].column("answer").to_pylist()
    assert found["face_fairface_race"]["face_acc_score"] == pytest.approx(letters.count(["B"]) / len(letters))

    ages = load_manifest(tmp_path / "face_utkface_age_years" / "manifest.parquet")
    assert ages.age is not None
    known = ages.age[(ages.split == 2) & ~np.isnan(ages.age)].astype(float)
    assert found["face_utkface_age_years"]["face_mae"] == pytest.approx(float(np.abs(known - 30).mean()))
    assert found["face_agedb_age"]["face_mae"] == pytest.approx((5 + 1 + 20 + 33) / 4)
    assert found["face_agedb_age"]["face_cs5_score"] == pytest.approx(2 / 4)

    presence = found["face_celebamask_hq_presence"]
    assert (presence["face_unparsed"], presence["face_f1"]) == (0.0, 0.0) and 0 < presence["face_acc_score"] < 1

    celeba = load_manifest(tmp_path / "face_celeba_consistency" / "manifest.parquet")
    answered = celeba.attributes[celeba.split == 2] >= 0  # to all of these the answer is yes
    place = {name: at for at, name in enumerate(celeba.vocabulary)}
    broken = np.zeros(len(answered))
    for rule in load_rules("celeba"):
        says_no = [literal.startswith("not ") for literal in (*rule.then, *rule.of)]
        if rule.kind == "exclusion" or (all(says_no) and not any(x.startswith("not ") for x in rule.if_)):
            broken += answered[:, [place[name] for name in rule.attributes()]].all(axis=1)
    assert found["face_celeba_consistency"]["face_violations"] == pytest.approx(float(broken.mean()))
