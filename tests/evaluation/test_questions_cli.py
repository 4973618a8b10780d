"""``llava-face questions`` and ``tasks-path`` as a user types them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llava_face_plugin.cli.main import app
from llava_face_plugin.evaluation.questions import load_questions
from llava_face_plugin.evaluation.tasks import task_folder

pytest.importorskip("pyarrow", reason="manifests are parquet")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    result = run("prepare", "made", "--out", out, "--train", 4, "--val", 6, "--size", "48x56")
    assert result.exit_code == 0, result.output
    return out


def test_from_drawn_faces_to_questions(made: Path, tmp_path: Path) -> None:
    result = run("questions", "--manifest", made, "--root", made, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    header, table = load_questions(tmp_path / "face_made.parquet")
    assert header.rows == 6 * 20 and header.split == "val" and header.image_root == str(made)
    assert f"face_made.parquet: 120 questions, digest {header.digest[:12]}" in result.output
    assert set(Counter(table.column("image_id").to_pylist()).values()) == {20}


def test_limit_and_split_are_noted(made: Path, tmp_path: Path) -> None:
    result = run(
        "questions",
        "face_made",
        "--manifest",
        made,
        "--root",
        made,
        "--out",
        tmp_path,
        "--split",
        "train",
        "--limit",
        2,
    )
    assert result.exit_code == 0 and "not the whole benchmark" in result.output and "not comparable" in result.output
    assert load_questions(tmp_path / "face_made.parquet")[0].rows == 40


def test_a_broken_and_a_missing_image_are_counted(made: Path, tmp_path: Path) -> None:
    import shutil

    root = Path(shutil.copytree(made, tmp_path / "copy"))
    names = sorted((root / "images").iterdir())[4:]  # the val images
    names[0].write_bytes(b"\xff\xd8\xff broken")
    names[1].unlink()
    result = run("questions", "face_made", "--manifest", root, "--root", root, "--out", tmp_path)
    header, table = load_questions(tmp_path / "face_made.parquet")
    assert header.rows == 4 * 20 and header.skipped == {"image damaged": 1, "image missing": 1}
    assert "left out: 1 x image damaged" in result.output and names[0].name in result.output
    assert not {names[0].stem, names[1].stem} & set(table.column("image_id").to_pylist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("face_mde", "--manifest", "M"), "did you mean 'face_made'"),
        (("face_celeba", "--manifest", "M"), "manifest of made; face_celeba needs"),
        (("face_made",), "--manifest"),
        ((), "name tasks"),
        (("face_made", "--manifest", "M", "--split", "dev"), "split 'dev'"),
        (("face_made", "--manifest", "M", "--split", "test"), "no image of the split test"),
        (("face_made", "--manifest", "M", "--set", "a"), "KEY=VALUE"),
        (("face_made", "--manifest", "nowhere"), "no such manifest"),
    ],
)
def test_mistakes_have_one_message(made: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    given = [str(made) if a == "M" else a for a in arguments]
    result = run("questions", *given, "--root", made, "--out", tmp_path)
    assert result.exit_code != 0 and message in str(result.exception)
    assert not list(tmp_path.glob("*.parquet"))


def test_the_list_and_the_folder() -> None:
    listed = run("questions", "--list")
    assert listed.exit_code == 0 and "face_celeba\n  CelebA: 40 attributes" in listed.output
    assert run("tasks-path").output.strip() == str(task_folder())
    assert (task_folder() / "face_celeba" / "face_celeba.yaml").is_file()
