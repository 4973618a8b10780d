"""AgeDB and MORPH II from files in their published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic_sources as sources

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.builders import BENCHMARKS, BuildOptions, build
from llava_face_plugin.evaluation.questions import Header, load_questions

pytest.importorskip("pyarrow", reason="question files are parquet")


def made(task: str, root: Path, out: Path, **options: Any) -> tuple[Header, list[dict[str, Any]]]:
    path, _ = build(BENCHMARKS[task], root, out, None, BuildOptions(**options))
    header, table = load_questions(path)
    return header, table.to_pylist()


def test_agedb_reads_names(tmp_path: Path) -> None:
    sources.agedb(tmp_path)
    sources.picture(tmp_path / "AgeDB" / "readme.jpg")
    sources.picture(tmp_path / "AgeDB" / "9_NoAge_f.jpg")
    sources.picture(tmp_path / "AgeDB" / "8_TooOld_450_m.jpg")
    header, asked = made("face_agedb_age", tmp_path, tmp_path / "q")
    found = {q["images"][0]: (q["answer"], q["cluster"], q["groups"]) for q in asked}
    assert found == {
        "AgeDB/0_MariaCallas_35_f.jpg": (
            ["35"], "person MariaCallas", {"gender": "female", "age_group": "30-39"}),
        "AgeDB/1_MariaCallas_41_f.jpg": (
            ["41"], "person MariaCallas", {"gender": "female", "age_group": "40-49"}),
        "AgeDB/2_JohnWayne_60_m.jpg": (["60"], "person JohnWayne", {"gender": "male", "age_group": "60-69"}),
        "AgeDB/3_AnnaO_Hara_7_f.jpg": (["7"], "person AnnaO_Hara", {"gender": "female", "age_group": "3-9"}),
    }  # fmt: skip
    assert header.skipped == {"name is not NUMBER_PersonName_AGE_SEX.jpg": 2, "age not from 0 to 120": 1}
    assert header.split == "all" and {q["topic"] for q in asked} == {"age"}


def test_morph_reads_its_table(tmp_path: Path) -> None:
    sources.morph(tmp_path)
    table = tmp_path / "morph_2008_nonCommercial.csv"
    more = [
        "009055,1,a,b,B,M,NULL,54,0,NULL,Album2/009055_1M54.JPG",
        ",1,a,b,B,M,NULL,30,0,NULL,Album2/009999_1M30.JPG",
        "009200,1,a,b,B,M,NULL,old,0,NULL,Album2/009200_1M30.JPG",
        "009201,1,a,b,B,M,NULL,30,0,NULL,../other.JPG",
        "009202,1,a,b,B,M",
        "009203,1,a,b,X,Q,NULL,18,0,NULL,Album2/009203_1M18.JPG",
        "009204,1,a,b,H,F,NULL,19,0,NULL,Album2/009204_1F19.JPG",
    ]
    table.write_text(table.read_text() + "\n".join(more) + "\n")
    sources.picture(tmp_path / "Album2/009203_1M18.JPG")
    header, asked = made("face_morph_age", tmp_path, tmp_path / "q")
    found = {q["images"][0].rpartition("/")[2]: (q["answer"][0], q["cluster"], q["groups"]) for q in asked}
    assert found == {
        "009055_1M54.JPG": ("54", "person 009055", {"gender": "male", "race": "Black", "age_group": "50-59"}),
        "009055_2M55.JPG": ("55", "person 009055", {"gender": "male", "race": "Black", "age_group": "50-59"}),
        "009101_1F22.JPG": ("22", "person 009101", {"gender": "female", "race": "White", "age_group": "20-29"}),
        "009203_1M18.JPG": ("18", "person 009203", {"gender": "", "race": "", "age_group": "10-19"}),
    }
    assert header.skipped == {
        "photo listed twice": 1, "no person, photo or whole age": 3, "wrong number of columns": 1, "image missing": 1,
    }  # fmt: skip
    assert [s["name"] for s in header.sources] == [table.name] and header.sources[0]["rows"] == 9


def test_splits_by_person(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}_Person{'abcdefghij'[number % 10]}{number // 20}_{20 + number % 50}_m.jpg").touch()
    parts = [made("face_agedb_age", tmp_path, tmp_path / "q", split=s, verify=False) for s in ("train", "val", "test")]
    people = [{q["cluster"] for q in asked} for _, asked in parts]
    assert sum(len(asked) for _, asked in parts) == 300 and not (people[0] & people[1] or people[1] & people[2])
    assert len(people[0]) > 5 * len(people[2]) > 0 and "hash of the person" in parts[2][0].notes[0]
    _, asked = made("face_agedb_age", tmp_path, tmp_path / "q", limit=7, verify=False)
    assert len(asked) == 7


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("face_agedb_age", {}, "0_MariaCallas_35_f.jpg"),
        ("face_morph_age", {}, "morph_2008_nonCommercial.csv"),
        ("face_agedb_age", {"settings": {"fold": "1"}}, "has no settings"),
    ],
)
def test_what_is_not_there(task: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match=message):
        made(task, tmp_path, tmp_path / "q", **options)


def test_a_split_that_does_not_exist(tmp_path: Path) -> None:
    sources.morph(tmp_path)
    with pytest.raises(FaceDataError, match="split 'dev'"):
        made("face_morph_age", tmp_path, tmp_path / "q", split="dev")
