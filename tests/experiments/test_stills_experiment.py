"""scripts/experiments/stills.py and pretrain_facial.py: what is drawn, asked, scored and remembered, on drawn faces."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import Tensor

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "experiments"))

import pretrain_facial
import stills
from clip_model import ByPixels, build
from still_model import IMAGE_TOKEN, RECIPE, TOKENS, build_base
from still_questions import CELEBA, IGNORED, encode, questions_of
from still_sets import Stills, balanced_accuracy, celeba, fairface
from still_table import tables
from transformers import AutoTokenizer
from variants import VARIANTS

from llava_face_plugin.data.made import render, sample_attributes
from llava_face_plugin.encoders.backbones import normalise
from llava_face_plugin.encoders.facial import FacialEncoder
from llava_face_plugin.facial_config import CLIP_MEAN, CLIP_STD, FacialConfig, VitConfig
from llava_face_plugin.labels import CELEBA_ATTRIBUTES

COUNT, SIDE = 24, 64
VIT = VitConfig(width=64, depth=6, heads=1, hidden=64, patch=16)
TINY = replace(RECIPE, steps=3, batch=4, expert=8)


@pytest.fixture(scope="module")
def faces() -> Stills:
    """Drawn faces under random labels of FairFace's kind; each second one held out."""
    random = np.random.default_rng(0)
    drawn = [np.asarray(render(row, n, (SIDE, SIDE))[0]) for n, row in enumerate(sample_attributes(COUNT, 0))]
    classes = {"gender": ("Male", "Female"), "race": ("White", "Black"), "age_group": tuple("abcdefghi")}
    return Stills(
        pixels=torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).contiguous(),
        labels={name: torch.from_numpy(random.permutation(COUNT) % len(names)) for name, names in classes.items()},
        classes=classes,
        held_out=torch.arange(COUNT) % 2 == 0,
    )


@pytest.fixture(scope="module")
def weights(faces: Stills, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that has learned from them, and was saved."""
    pupil = pretrain_facial.train(faces, epochs=1, vit=VIT)
    path = tmp_path_factory.mktemp("weights") / "pupil.pth"
    torch.save({"state_dict": pretrain_facial.farl_names(pupil.vit.state_dict())}, path)
    rgb = faces.pixels[:2].float() / 255
    config = FacialConfig(path=str(path), taps=stills.TAPS, size=SIDE, vit=VIT)
    found = FacialEncoder(config)(rgb, SIDE // VIT.patch, like=rgb)
    with torch.no_grad():
        wanted = pupil.vit(normalise(rgb, CLIP_MEAN, CLIP_STD), stills.TAPS)
    for n, tap in enumerate(wanted):
        torch.testing.assert_close(found[:, :, n], torch.nn.functional.layer_norm(tap, (VIT.width,)))
    return path


@pytest.fixture(scope="module")
def base(faces: Stills, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base"), TINY, seed=0, corpus=stills.corpus([faces]))


@pytest.fixture(scope="module")
def task(faces: Stills, base: Path) -> stills.Task:
    return stills.Task.of(faces, AutoTokenizer.from_pretrained(base))


class Forgetful(ByPixels):
    """Computes every time."""

    def around(self, encode: Callable[..., Tensor], key: Any) -> Callable[..., Tensor]:
        return encode


def test_a_question_ends_in_its_answer(task: stills.Task, base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    gender = task.encoded[0]
    assert ((gender.ids == IMAGE_TOKEN).sum(dim=1) == TOKENS).all()
    for row, answer in enumerate(("Male", "Female")):
        said = gender.ids[row][gender.labels[row] != IGNORED]
        assert said[-1] == tokenizer.eos_token_id and tokenizer.decode(said[:-1]).strip() == answer
        assert (
            gender.labels[row, gender.length] == gender.first[row] and (gender.labels[row, : gender.length] < 0).all()
        )
    assert torch.equal(gender.ids[0, : gender.length], gender.ids[1, : gender.length])
    assert len({encoded.ids.shape[1] for encoded in task.encoded}) == 1


def test_training_draws_true_pairs_of_train_images_alone(task: stills.Task) -> None:
    images, ids, _ = stills.Draws(task, seed=0).batch(600)
    assert not task.stills.held_out[images].any()
    counts: dict[tuple[int, int], int] = {}
    for image, row in zip(images, ids, strict=True):
        number, answer = next(
            (q, a) for q, encoded in enumerate(task.encoded) for a, known in enumerate(encoded.ids)
            if torch.equal(known, row)
        )  # fmt: skip
        assert task.questions[number].labels[image] == answer
        counts[number, answer] = counts.get((number, answer), 0) + 1
    wanted = {(0, 0): 150, (0, 1): 150, (1, 0): 100, (1, 1): 100, (1, 2): 100}  # of 2 questions, of 2 and 3 answers
    assert counts.keys() == wanted.keys() and all(abs(counts[key] - wanted[key]) < 45 for key in wanted)


def test_ages_in_three_groups(faces: Stills) -> None:
    age = questions_of(faces)[1]
    assert [int(age.labels[faces.labels["age_group"] == n][0]) for n in range(9)] == [0, 0, 0, 1, 1, 2, 2, 2, 2]


def test_balanced_accuracy_by_hand() -> None:
    # Recall 1/2 of class 0, 1 of class 2; class 1 is not asked for.
    assert balanced_accuracy(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 2])) == pytest.approx(0.75)


def test_whole_images_are_mirrored_or_left(faces: Stills, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain_facial, "LEAST_CROP", 1.0)
    rgb = faces.pixels.float() / 255
    seen = pretrain_facial.augment(rgb, torch.Generator().manual_seed(0))
    kept = [torch.allclose(a, b, atol=1e-4) for a, b in zip(seen, rgb, strict=True)]
    mirrored = [torch.allclose(a, b.flip(-1), atol=1e-4) for a, b in zip(seen, rgb, strict=True)]
    assert all(a != b for a, b in zip(kept, mirrored, strict=True)) and any(kept) and any(mirrored)


@pytest.mark.parametrize("name", ["full", "no multi-granularity"])
def test_remembered_features_change_nothing(
    name: str, task: stills.Task, base: Path, weights: Path, tmp_path: Path
) -> None:
    losses, said = [], []
    for memory in (Forgetful(), ByPixels()):
        plain = Path(shutil.copytree(base, tmp_path / type(memory).__name__ / "plain"))
        facial = {"path": str(weights), "taps": stills.TAPS, "size": SIDE}
        model = build(VARIANTS[name], plain, facial, TINY, 0, memory)
        losses.append(stills.train(model, task, TINY, seed=0))
        with torch.no_grad():
            said.append(model(input_ids=task.encoded[0].ids[:1], pixel_values=task.pixels[:1]).logits)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    torch.testing.assert_close(said[0], said[1], atol=1e-4, rtol=1e-4)


def test_a_cell_is_scored(task: stills.Task, base: Path, weights: Path) -> None:
    found = stills.cell("full", base, task, weights, TINY, 0, ByPixels())
    assert set(found["balanced"]) == {"gender", "age"} and 0 <= found["mean"] <= 1
    assert found["chance"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert (found["train_images"], found["held_out"]) == (12, 12)
    assert sum(int(group.split("(")[1][:-1]) for group in found["groups"]["gender"]) == 12


def test_tables_by_hand() -> None:
    def cell(variant: str, seed: int, mean: float) -> dict[str, Any]:
        return {
            "set": "celeba", "variant": variant, "seed": seed, "mean": mean, "balanced": {"Male": mean}, "groups": {},
            "accuracy": 0.5, "loss": 0.1, "trained": 2000, "seconds": 3.0, "chance": 0.5, "majority": 0.8,
        }  # fmt: skip

    text = tables([cell("full", 0, 0.7), cell("full", 1, 0.8), cell("off", 0, 0.6), cell("off", 1, 0.5)])
    # full minus off: 0.1 and 0.3, mean 0.2, sample deviation 0.1414.
    assert "| off | 2 | 0.550 ± 0.071 | 0.500..0.600 | 0.200 ± 0.141 |" in text
    assert "| Male | 0.750 ± 0.071 | 0.550 ± 0.071 |" in text


def test_both_sets_are_read(tmp_path: Path) -> None:
    """Two pictures each, in their own layouts: the middle square, the labels, who is held out."""
    picture = np.zeros((218, 178, 3), dtype=np.uint8)
    picture[20:198] = 200  # the middle square
    folder = tmp_path / "img_align_celeba"
    folder.mkdir()
    lines = {"list_attr_celeba.txt": f"2\n{' '.join(CELEBA_ATTRIBUTES)}\n"}
    for name, value in (("000001.jpg", "1"), ("000002.jpg", "-1")):
        Image.fromarray(picture).save(folder / name, quality=100)
        lines["list_attr_celeba.txt"] += f"{name} {' '.join([value] * 40)}\n"
        lines["identity_CelebA.txt"] = lines.get("identity_CelebA.txt", "") + f"{name} {abs(int(value)) + len(lines)}\n"
        lines["list_eval_partition.txt"] = lines.get("list_eval_partition.txt", "") + f"{name} 0\n"
    for name, text in lines.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    read = celeba(tmp_path, 32, held_out=1)
    assert read.pixels.shape == (2, 3, 32, 32) and read.held_out.sum() == 1
    assert read.pixels[:, :, 4:-4].float().mean() == pytest.approx(200, abs=2)
    assert [question.labels.tolist() for question in questions_of(read)] == [[1, 0]] * len(CELEBA)

    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Image.fromarray(picture[:178]).save(tmp_path / split / "1.jpg")
        rows = f"file,age,gender,race,service_test\n{split}/1.jpg,20-29,Female,Black,False\n"
        (tmp_path / f"fairface_label_{split}.csv").write_text(rows, encoding="utf-8")
    read = fairface(tmp_path, 32)
    assert read.held_out.tolist() == [False, True] and read.labels["gender"].tolist() == [1, 1]


def test_encode_refuses_answers_that_begin_alike(task: stills.Task, base: Path) -> None:
    same = replace(task.questions[0], answers=("Male", "Male"))
    with pytest.raises(AssertionError, match="begin alike"):
        encode([same], AutoTokenizer.from_pretrained(base))


def test_other_weights_do_not_go_into_the_same_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "cells.jsonl"
    monkeypatch.setattr(stills, "read_set", lambda name, root: None)

    def run(*only: str) -> None:
        stills.run(tmp_path, tmp_path, out, seeds=0, only=list(only))

    (tmp_path / "celeba.pth").write_bytes(b"one")
    (tmp_path / "fairface.pth").write_bytes(b"two")
    run("celeba")
    run("celeba", "fairface")
    (tmp_path / "celeba.pth").write_bytes(b"other")
    run("celeba")
    with pytest.raises(typer.BadParameter, match=r"made with SHA-256 of celeba\.pth"):
        run("fairface")
