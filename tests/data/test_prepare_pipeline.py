"""From a registered data set to files: labels alone, closed-set labels, styles, own conversations, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from llava_face_plugin.cli import prepare as command
from llava_face_plugin.data.datasets import DATASETS, DatasetInfo, ReadOptions
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.data.manifest_file import load_manifest
from llava_face_plugin.data.prepare import prepare
from llava_face_plugin.data.splits import SplitOptions
from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.knowledge.file import Knowledge
from llava_face_plugin.labels import CELEBA_ATTRIBUTES

app = typer.Typer()
command.register(app)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def rows_of(path: Path) -> list[dict]:  # type: ignore[type-arg]
    return json.loads(path.read_text())


def moods(root: Path, options: ReadOptions) -> Manifest:
    """A data set of expressions alone: 30 train images, no other split."""
    n = 30
    return Manifest(
        "moods", np.array([f"{i}.jpg" for i in range(n)]), np.zeros(n, dtype=np.int8),
        classes={"expression": ("sad", "happy")}, labels={"expression": (np.arange(n) % 3 - 1).astype(np.int16)},
        present=np.ones(n, dtype=bool) if options.look_for_images else None,
        sources=[{"name": "moods.csv", "sha256": "1" * 64, "rows": n}],
    )  # fmt: skip


@pytest.fixture
def moods_set(monkeypatch: pytest.MonkeyPatch) -> None:
    info = DatasetInfo("moods", "Moods", "nobody", "free", "n.jpg", moods)
    monkeypatch.setitem(DATASETS._entries, "moods", info)


def test_names_are_those_of_the_files_and_clashes_are_refused() -> None:
    assert {"celeba", "celebamask_hq", "llava_json"} <= set(DATASETS)
    for name in DATASETS:
        info = DATASETS[name]
        assert info.name == name == name.lower() and info.licence and info.citation and info.layout
    with pytest.raises(ValueError, match="already registered"):
        DATASETS.register("celeba")(DATASETS["celeba"])
    with pytest.raises(FaceConfigError, match="unknown data set 'celbea'; did you mean 'celeba'"):
        prepare("celbea", ".", "nowhere")


def test_the_manifest_of_celeba(celeba: Path, tmp_path: Path) -> None:
    prepare("celeba", celeba, tmp_path, splits=SplitOptions(holdout=0), knowledge=False)
    found = load_manifest(tmp_path / "manifest.parquet")
    assert len(found) == 24 and found.vocabulary == CELEBA_ATTRIBUTES and found.groups == ("Male", "Young")
    assert found.images[0] == "img_align_celeba/000001.jpg" and found.ids[0] == "000001"
    assert np.bincount(found.split).tolist() == [16, 4, 4] and found.identity is not None
    assert found.identity[:4].tolist() == [0, 0, 1, 1]
    assert found.present is not None and found.present.sum() == 12 and found.maps is None
    assert [s["rows"] for s in found.sources] == [24] * 3 and all(len(str(s["sha256"])) == 64 for s in found.sources)
    assert any(n.startswith("licence: non-commercial") for n in found.notes)
    assert (tmp_path / "manifest.schema.json").is_file()


def test_labels_alone(celeba: Path, tmp_path: Path) -> None:
    whole = prepare("celeba", celeba, tmp_path / "whole", splits=SplitOptions(holdout=0))
    elsewhere = tmp_path / "files"
    elsewhere.mkdir()
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        (celeba / name).rename(elsewhere / f"my_{name}")
    shown = run("celeba", "--labels", elsewhere / "my_list_attr_celeba.txt", "--partition",
                elsewhere / "my_list_eval_partition.txt", "--out", tmp_path / "out")  # fmt: skip
    assert "no image was looked for" in shown and "--data_path" not in shown and "licence: " in shown
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "manifest.parquet", "manifest.schema.json", "celeba.knowledge.safetensors",
    }  # fmt: skip
    found = load_manifest(tmp_path / "out" / "manifest.parquet")
    assert found.present is None and len(found) == 24
    a, b = (Knowledge.load(p) for p in (whole.files["knowledge"], tmp_path / "out" / "celeba.knowledge.safetensors"))
    assert np.array_equal(a.cooccurrence.joint, b.cooccurrence.joint) and a.rules == b.rules
    with pytest.raises(FaceDataError, match=r"gone.zip: no such file \(given for list_attr_celeba.txt\)"):
        run("celeba", "--labels", tmp_path / "gone.zip", "--out", tmp_path / "out")


def test_a_missing_file_and_a_bad_out_folder(celeba: Path, tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match="list_eval_partition.txt is missing .*--partition names it"):
        run("celeba", "--labels", celeba / "list_attr_celeba.txt", "--out", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(FaceDataError, match="no folder to write into"):
        run("celeba", "--root", celeba, "--out", tmp_path / "file" / "out")
    with pytest.raises(FaceDataError, match="unknown rule file 'nope'"):
        run("celeba", "--root", celeba, "--out", tmp_path / "out", "--rules", "nope")
    assert not (tmp_path / "out").exists()


def test_labels_only_below_a_root_without_images(celeba: Path, tmp_path: Path) -> None:
    (celeba / "img_align_celeba").rename(celeba / "gone")
    with pytest.raises(FaceDataError, match="no image folder .*--labels-only"):
        run("celeba", "--root", celeba, "--out", tmp_path / "out")
    assert "24" in run("celeba", "--root", celeba, "--out", tmp_path / "out", "--labels-only")
    shown = run("celeba", "--root", celeba, "--out", tmp_path / "out", "--images", celeba / "gone", "--holdout", "0")
    assert "│ train" in shown
    assert rows_of(tmp_path / "out" / "train.json")[0]["image"] == "gone/000001.jpg"


def test_equal_rows_are_dropped_and_counted(celeba: Path, tmp_path: Path) -> None:
    for name in ("list_attr_celeba.txt", "identity_CelebA.txt"):
        path = celeba / name
        path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[4])
    shown = run("celeba", "--root", celeba, "--out", tmp_path, "--no-knowledge")
    assert "skipped: row that is there twice │      2" in shown.replace("┃", "│")
    assert "line 27: 000003.jpg was already in line 5" in shown and "line 25: 000005.jpg was already in line 5" in shown
    assert len(load_manifest(tmp_path / "manifest.parquet")) == 24


def test_styles_and_balance(celeba: Path, tmp_path: Path) -> None:
    words = ("celeba", "--root", celeba, "--out", tmp_path, "--holdout", 0, "--no-knowledge")
    shown = run(*words, "--styles", "closed, list,choice,describe", "--balance")
    rows = rows_of(tmp_path / "train.json")
    assert len(rows) == 36 and len({r["id"] for r in rows}) == 36
    assert {r["id"].partition(":")[2] for r in rows} == {"", "list", "describe"}
    assert "celeba has no labels for the styles choice: left out" in shown and "train (describe)" in shown
    text = (tmp_path / "train.json").read_text()
    run(*words, "--styles", "closed,list,choice,describe", "--balance")
    assert (tmp_path / "train.json").read_text() == text
    with pytest.raises(FaceDataError, match="unknown style 'lists'; did you mean 'list'"):
        run(*words, "--styles", "lists")
    with pytest.raises(FaceDataError, match="styles choice: celeba has neither"):
        run(*words, "--styles", "choice")


def test_closed_set_labels_alone(moods_set: None, tmp_path: Path) -> None:
    done = prepare("moods", tmp_path, tmp_path / "out", splits=SplitOptions(holdout=6, balance=True))
    train, choices = rows_of(done.files["train"]), done.files["val choices"].read_text().splitlines()
    assert done.skipped == {"nothing known to ask about": 30 - done.rows["val images"] - len(train)}
    assert "val questions" not in done.files and len(choices) == sum(
        json.loads(c)["answer"] in ("sad", "happy") for c in choices
    )
    for row in train:
        answer = row["conversations"][1]["value"]
        assert row["face_attributes"] == {f"expression:{v}": int(v == answer) for v in ("sad", "happy")}
    knowledge = Knowledge.load(done.files["knowledge"])
    assert knowledge.vocabulary == ("expression:sad", "expression:happy")
    assert [r.kind for r in knowledge.rules] == ["exactly_one"]
    assert all(r.weight == 1 for r in knowledge.rules)
    assert knowledge.cooccurrence.rows == 24  # nothing is learned from those held out
    (record,) = knowledge.meta["sources"]
    assert record["sources"] == [{"name": "moods.csv", "sha256": "1" * 64, "rows": 30}] and record["rows"] == 24
    assert any("only closed questions are balanced, not choice" in n for n in done.notes)
    bare = prepare("moods", tmp_path, tmp_path / "out", knowledge=False)
    assert all(not r["face_attributes"] for r in rows_of(bare.files["train"]))
    with pytest.raises(FaceDataError, match="styles closed: moods has neither"):
        prepare("moods", tmp_path, tmp_path / "out", splits=SplitOptions(styles=("closed",)))


def test_hq_attributes_through_the_mapping(hq: Path, celeba: Path, tmp_path: Path) -> None:
    (hq / "CelebAMask-HQ-attribute-anno.txt").unlink()
    (hq / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx orig_idx orig_file\r\n2 1 000017.jpg\r\n0 4 000005.jpg\r\n1 8 000009.jpg\r\n"
    )
    read = ReadOptions(celeba_root=celeba)
    done = prepare("celebamask_hq", hq, tmp_path / "out", read)
    assert done.manifest is not None and sorted(done.manifest.ids) == ["0", "1", "2"]
    original = prepare("celeba", celeba, tmp_path / "celeba").manifest
    for row, name in enumerate(done.manifest.ids):
        there = original.images.tolist().index({"0": "img_align_celeba/000005.jpg", "1": "img_align_celeba/000009.jpg",
                                                "2": "img_align_celeba/000017.jpg"}[name])  # fmt: skip
        assert np.array_equal(done.manifest.attributes[row], original.attributes[there])
        assert done.manifest.split[row] == original.split[there]
        assert done.manifest.identity[row] == original.identity[there]
    run("celebamask_hq", "--root", hq, "--celeba-root", celeba, "--out", tmp_path / "only", "--labels-only")
    assert len(load_manifest(tmp_path / "only" / "manifest.parquet")) == 3


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with LLaVA JSON: four good samples about three images, one of them missing, and four bad ones."""
    root = tmp_path / "own"
    root.mkdir()

    def sample(name: str, image: str | None, *more: str, **other: object) -> dict:  # type: ignore[type-arg]
        texts = [("<image>\n" if image else "") + "Who?", "Nobody.", *more]
        said = [{"from": ("human", "gpt")[i % 2], "value": t} for i, t in enumerate(texts)]
        return {"id": name, **({"image": image} if image else {}), "conversations": said, **other}

    samples = [
        sample("a", "a.jpg", "And?", "No.", face_attributes={"Bald": 1}, extra=[1]),
        sample("a", "a.jpg", "More?", "No."),
        sample("b", "sub/b.jpg", face_map="maps/b.png"),
        sample("c", "c.jpg"),
        sample("t", None),
        sample("a", "a.jpg", "More?", "No."),
        sample("odd", "a.jpg", "And?"),
        sample("two", "a.jpg", "<image>?", "No."),
        sample("v", "a.jpg", video="v.mp4"),
    ]
    (root / "data.json").write_text(json.dumps(samples))
    (root / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg"):
        Image.new("RGB", (8, 8)).save(root / name)
    return root


def test_llava_json_is_passed_through(own: Path, tmp_path: Path) -> None:
    shown = run("llava_json", "--root", own, "--out", tmp_path / "out")
    given, written = rows_of(own / "data.json"), rows_of(tmp_path / "out" / "train.json")
    assert written == [given[i] for i in (0, 1, 2, 4)]  # c.jpg is not there
    found = load_manifest(tmp_path / "out" / "manifest.parquet")
    assert found.images.tolist() == ["a.jpg", "sub/b.jpg", "c.jpg"] and found.vocabulary == ("Bald",)
    assert found.attributes[:, 0].tolist() == [1, -1, -1] and found.maps is not None
    assert found.maps.tolist() == ["", "maps/b.png", ""]
    assert found.skipped == {
        "sample that is there twice": 1, "roles do not alternate": 1, "wrong <image>": 1, "video, not an image": 1,
    }  # fmt: skip
    assert "sample 7 (odd): the last question has no answer" in shown and "no image file (train)" in shown


def test_llava_json_without_looking_for_images(own: Path, tmp_path: Path) -> None:
    run("llava_json", "--labels", own / "data.json", "--out", tmp_path / "out")
    given = rows_of(own / "data.json")
    assert rows_of(tmp_path / "out" / "train.json") == given[:5]


def test_llava_json_lines_holdout_and_labels(own: Path, tmp_path: Path) -> None:
    lines = [json.dumps(s) for s in rows_of(own / "data.json")]
    (tmp_path / "x.jsonl").write_text("\n".join([*lines[:4], "{broken", ""]))
    words = ("llava_json", "--root", own, "--labels", tmp_path / "x.jsonl", "--out", tmp_path / "out", "--no-knowledge")
    shown = run(*words, "--holdout", 1, "--balance")
    assert "has conversations of its own" in shown and "x.jsonl, line 5: not valid JSON" in shown
    train, val = (rows_of(tmp_path / "out" / f"{s}.json") for s in ("train", "val"))
    assert len(train) + len(val) == 3 and not {r["image"] for r in train} & {r["image"] for r in val}
    saved = load_manifest(tmp_path / "out" / "manifest.parquet")
    assert saved.images[saved.split == 1].tolist() == [val[0]["image"]]
    with pytest.raises(FaceDataError, match="no splits of its own"):
        run(*words, "--split", "test")
    (own / "second.json").write_text("[]")
    with pytest.raises(FaceDataError, match=r"found data.json, second.json; name it with --labels"):
        run("llava_json", "--root", own, "--out", tmp_path / "out")
    with pytest.raises(FaceDataError, match=r"second.json: expected a list of samples"):
        run("llava_json", "--root", own, "--labels", own / "second.json", "--out", tmp_path / "out")


def test_list_shows_layout_and_licence_of_all() -> None:
    shown = run("--list")
    for name in DATASETS:
        assert f"\n{name}\n" in shown and DATASETS[name].licence in shown
    assert "img_align_celeba/*.jpg" in shown and shown.startswith("made\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["celbea"], "unknown data set 'celbea'; did you mean 'celeba'"),
        (["made", "--labels", "x"], "--labels is an option of real data sets only"),
        (["made", "--balance"], "are for real data sets"),
        (["fairface", "--root", "x", "--celeba-root", "y"], "--celeba-root is an option of celebamask_hq only"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(FaceConfigError, match=message):
        run(*words, "--out", tmp_path)


def test_the_real_celeba_labels_alone(real_faces: Path, tmp_path: Path) -> None:
    folder = real_faces / "celeba"
    read = ReadOptions(labels=folder / "list_attr_celeba.zip", partition=folder / "list_eval_partition.zip")
    done = prepare("celeba", None, tmp_path, read)
    assert not done.skipped and len(done.notes) == 1  # the files are the official ones
    found = load_manifest(tmp_path / "manifest.parquet")
    assert np.bincount(found.split).tolist() == [162_770, 19_867, 19_962]
    bald, bangs = (CELEBA_ATTRIBUTES.index(a) for a in ("Bald", "Bangs"))
    assert int(found.attributes.sum()) == 1_830_201  # the sum of the published counts
    assert (
        found.attributes[:, bald].sum() == 4547 and not (found.attributes[:, bald] & found.attributes[:, bangs]).any()
    )
