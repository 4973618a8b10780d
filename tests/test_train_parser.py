"""scripts/train_parser.py: pairs, flips, loss and scores by hand, and whole runs on a handful of made faces."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

import train_parser
from parser_training.augmentation import Augmentation, augment
from parser_training.objective import class_weights, parsing_loss
from parser_training.pairs import Pair, TrainingSet, read_pairs, repeat_factors
from parser_training.scores import confusion_of, scores_of

from llava_face_plugin.data import made
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import FACE_PARTS, NO_MAP, NUM_PARTS
from llava_face_plugin.maps.files import write_map
from llava_face_plugin.parsing.networks.compact import load_compact

SCRIPTS = Path(train_parser.__file__).parent
SKIN, L_EYE, R_EYE, HAIR = (FACE_PARTS.index(part) for part in ("skin", "l_eye", "r_eye", "hair"))
OPTIONS: dict[str, Any] = {"holdout": 4, "size": 64, "epochs": 5, "batch_size": 4, "evaluate_every": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 made faces in the layout of CelebAMask-HQ's pairs."""
    out = tmp_path_factory.mktemp("made")
    made.make(out, n_train=12, n_val=0, seed=3)
    (out / "maps").rename(out / "masks")
    return out


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one whole training run."""
    out = tmp_path_factory.mktemp("run")
    train_parser.main(root, out, **OPTIONS)
    return out


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_compact(out / "parser.safetensors").net.state_dict()


def face(left_to_right: tuple[int, int] = (R_EYE, L_EYE), name: str = "face") -> Pair:
    """An 8x8 face: skin, hair on top, one eye on each side in the picture."""
    labels = np.full((8, 8), SKIN, dtype=np.uint8)
    labels[:2], labels[4, 1:3], labels[4, 6] = HAIR, left_to_right[0], left_to_right[1]
    return Pair(name, np.repeat((labels * 10)[..., None], 3, axis=2), labels, False)


# Data


def test_a_flip_reverses_the_picture_and_exchanges_the_sides() -> None:
    data = TrainingSet([face()] * 32, 8)
    images, maps = data.batch(torch.arange(32), torch.Generator().manual_seed(0))
    flips = images[:, 0, 4, 5] != SKIN * 10
    assert 4 < flips.sum() < 28
    assert torch.equal(maps[~flips][0], torch.from_numpy(face().labels))
    assert maps[~flips][0, 4].tolist() == [SKIN, R_EYE, R_EYE, SKIN, SKIN, SKIN, L_EYE, SKIN]
    assert maps[flips][0, 4].tolist() == [SKIN, R_EYE, SKIN, SKIN, SKIN, L_EYE, L_EYE, SKIN]
    assert torch.equal(images[flips][0, 0], torch.from_numpy(face().labels * 10).flip(-1))


def test_masks_are_brought_to_the_image_side(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, sides in (("right", (R_EYE, L_EYE)), ("wrong", (L_EYE, R_EYE))):
        Image.fromarray(face().image).save(tmp_path / "images" / f"{name}.png")
        write_map(tmp_path / "masks" / f"{name}.png", face(sides).labels)
    right, wrong = read_pairs(tmp_path, 64, 1).good
    assert (right.exchanged, wrong.exchanged) == (False, True)
    assert np.array_equal(right.labels, wrong.labels) and right.image.shape == (64, 64, 3)


def test_a_mask_may_be_smaller_than_its_image_but_not_of_another_shape(tmp_path: Path) -> None:
    """CelebAMask-HQ's own layout: images of 1024, masks of 512."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (80, 80)).save(tmp_path / "images" / "a.jpg")
    write_map(tmp_path / "masks" / "a.png", np.ones((40, 40), np.uint8))
    (pair,) = read_pairs(tmp_path, 64, 1).good
    assert pair.labels.shape == (40, 40) and pair.image.shape == (64, 64, 3)
    write_map(tmp_path / "masks" / "a.png", np.ones((40, 60), np.uint8))
    with pytest.raises(FaceDataError, match="size 60x40, but the image has 80x80"):
        read_pairs(tmp_path, 64, 1)


def test_pairs_that_cannot_be_used_are_named(root: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(root, tmp_path / "data"))
    images, masks = data / "images", data / "masks"
    (masks / "000001.png").unlink()
    (images / "000002.jpg").write_bytes((images / "000002.jpg").read_bytes()[:-500])
    write_map(masks / "000003.png", face().labels)
    Image.fromarray(np.full(Image.open(masks / "000005.png").size[::-1], 77, np.uint8)).save(masks / "000005.png")
    write_map(masks / "000007.png", np.full(Image.open(masks / "000007.png").size[::-1], NO_MAP, np.uint8))
    (images / "000009.jpg").unlink()
    pairs = read_pairs(data, 64, 2)
    assert len(pairs.good) == 6 and len(pairs.skipped) == 6
    said = {"000001": "no such file", "000002": "damaged or truncated", "000003": "size 8x8", "000005": r"ids \[77\]",
            "000007": "no pixel with a known part", "000009": "has no image"}  # fmt: skip
    for name, message in said.items():
        with pytest.raises(FaceDataError, match=message):
            raise FaceDataError(pairs.skipped[name])


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match="no images; expected"):
        read_pairs(tmp_path, 64, 1)
    (tmp_path / "images").mkdir()
    Image.fromarray(face().image).save(tmp_path / "images" / "a.png")
    with pytest.raises(FaceDataError, match="none of 1 pairs can be used; the first: .*a.png: no such file"):
        read_pairs(tmp_path, 64, 1)


def test_the_split_follows_from_the_seed(root: Path) -> None:
    pairs = read_pairs(root, 64, 1)
    names = [[{p.name for p in part} for part in pairs.split(4, seed)] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert len(names[0][0]) == 8 and len(names[0][1]) == 4 and not names[0][0] & names[0][1]
    for holdout in (0, 12):
        with pytest.raises(FaceDataError, match=f"cannot hold out {holdout} of 12"):
            pairs.split(holdout, 0)


def test_images_with_rare_parts_are_shown_more_often() -> None:
    present = np.zeros((100, NUM_PARTS), dtype=bool)
    present[:, SKIN], present[:5, HAIR] = True, True
    factors = repeat_factors(present, threshold=0.2)
    assert factors[:5].tolist() == pytest.approx([2.0] * 5) and factors[5:].tolist() == [1.0] * 95
    data = TrainingSet([face()] * 100, 8)
    data.repeats = factors
    shown = torch.bincount(data.order(torch.Generator().manual_seed(0)), minlength=100)
    assert shown.sum() == 100 and shown.max() <= 2
    assert 9 <= shown[:5].sum() <= 10, "2 / 1.05 times each"


# Augmentation


def test_no_change_changes_nothing() -> None:
    still = Augmentation(degrees=0, scale=0, stretch=0, shift=0, colour=0)
    images, maps = torch.from_numpy(face().image).permute(2, 0, 1)[None], torch.from_numpy(face().labels)[None]
    out, labels = augment(images, maps, torch.Generator(), still, 8)
    torch.testing.assert_close(out * 255, images.float(), rtol=0, atol=1e-3)
    assert torch.equal(labels, maps.long())


def test_image_and_map_move_alike(root: Path) -> None:
    ids = torch.stack([torch.from_numpy(np.kron(face().labels, np.ones((16, 16), np.uint8)))] * 8)
    images = (ids * 10)[:, None].expand(-1, 3, -1, -1)
    out, labels = augment(images, ids, torch.Generator().manual_seed(0), Augmentation(colour=0), 128)
    inside = labels != NO_MAP
    assert 0.6 < inside.float().mean() < 0.99, "some of it comes from outside of the picture"
    assert (out[:, 0] * 255 / 10).round()[inside].eq(labels[inside]).float().mean() > 0.95
    assert (out[:, 0][~inside] < 0.55).all() and out[:, 0][~inside].median() == 0
    moved = (labels != ids).flatten(1).float().mean(1)
    assert (moved > 0.02).all() and moved.unique().numel() > 4, "each one by its own draw"


# Loss and scores


def test_the_loss_is_least_for_the_truth_and_ignores_unknown_pixels() -> None:
    labels = torch.from_numpy(face().labels).long()[None]
    truth = 20.0 * torch.nn.functional.one_hot(labels, NUM_PARTS).permute(0, 3, 1, 2).float()
    weights = class_weights(torch.bincount(labels.reshape(-1), minlength=NUM_PARTS) / 64)
    assert parsing_loss(truth, labels, weights) < 1e-4
    wrong = truth.roll(1, dims=1)
    assert parsing_loss(wrong, labels, weights) > 10
    hidden = labels.clone()
    hidden[:, 4] = NO_MAP
    half = truth.clone()
    half[:, :, 4] = wrong[:, :, 4]
    assert parsing_loss(half, hidden, weights) < 1e-4 < parsing_loss(half, labels, weights)


def test_rare_parts_weigh_more_and_the_mean_pixel_one() -> None:
    frequency = torch.zeros(NUM_PARTS)
    frequency[SKIN], frequency[HAIR] = 0.9999, 0.0001
    weights = class_weights(frequency)
    assert weights[HAIR] / weights[SKIN] == pytest.approx(10, rel=1e-3)
    assert float((weights * frequency).sum()) == pytest.approx(1)


def test_scores_by_hand() -> None:
    truth = np.array([[SKIN, SKIN, HAIR, NO_MAP]], dtype=np.uint8)
    first = confusion_of(truth, np.array([[SKIN, HAIR, HAIR, HAIR]], dtype=np.uint8))
    second = confusion_of(truth[:, :2], np.array([[SKIN, SKIN]], dtype=np.uint8))
    scores = scores_of([first, second])
    assert scores.f1["skin"] == pytest.approx(6 / 7) and scores.f1["hair"] == pytest.approx(2 / 3)
    assert scores.f1["background"] is None and scores.pixels["skin"] == 4 and scores.pixels["background"] == 0
    assert scores.mean_f1 == scores.mean_f1_without_background == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert scores.mean_f1_of_images == pytest.approx((2 / 3 + 1) / 2)
    assert scores.pixel_accuracy == pytest.approx(4 / 5)


# Whole runs


def test_a_run_lowers_the_loss_and_reports(run: Path) -> None:
    report = report_of(run)
    losses = [epoch["loss"] for epoch in report["history"]]
    assert len(losses) == 5 and losses[-1] < losses[0] - 0.1
    assert [epoch["epoch"] for epoch in report["history"] if "mean_f1" in epoch] == [3, 5]
    assert set(report["f1"]) == set(FACE_PARTS) and 0 < report["mean_f1"] < 1 and "19 classes" in report["definition"]
    assert report["data"]["training_pairs"] == 8 and report["data"]["held_out_pairs"] == 4
    assert report["recipe"]["seed"] == 0 and report["epochs"] == 5 and report["steps"] == 10 and report["finished"]
    assert report["minutes"] >= 0 and report["command"].startswith("python ")
    for name, digest in report["sha256"].items():
        assert hashlib.sha256((run / name).read_bytes()).hexdigest() == digest
    assert set(report["sha256"]) == {"parser.safetensors", "parser.torchscript.pt"}


def test_both_exports_give_the_same_logits(run: Path) -> None:
    network = load_compact(run / "parser.safetensors")
    script = torch.jit.load(str(run / "parser.torchscript.pt"))
    images = torch.rand(3, 3, 64, 64)
    assert network.size == 64 and network.header.training["epochs"] == 5
    with torch.inference_mode():
        torch.testing.assert_close(script(images), network(images))


def test_a_killed_run_goes_on_to_the_same_weights(run: Path, root: Path, tmp_path: Path) -> None:
    # It dies while it writes its third checkpoint.
    code = f"""
import os, sys, torch
sys.path.append({str(SCRIPTS)!r})
from pathlib import Path
import train_parser
save, calls = torch.save, []
def killed(content, path):
    calls.append(path)
    if len(calls) == 3:
        path.write_bytes(b"half")
        os.kill(os.getpid(), 9)
    save(content, path)
torch.save = killed
train_parser.main(Path({str(root)!r}), Path({str(tmp_path)!r}), **{OPTIONS!r})
"""
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    child = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert child.returncode == -9, child.stderr
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epoch"] == 2
    train_parser.main(root, tmp_path, **OPTIONS, resume=True)
    ours, straight = weights_of(tmp_path), weights_of(run)
    assert all(torch.equal(ours[name], straight[name]) for name in straight)
    assert report_of(tmp_path)["mean_f1"] == report_of(run)["mean_f1"]


def test_a_resumed_run_must_be_the_same(run: Path, root: Path, tmp_path: Path) -> None:
    def refused(message: str, out: Path = run, data: Path = root, **options: Any) -> None:
        with pytest.raises(SystemExit, match=message):
            train_parser.main(data, out, **{**OPTIONS, **options})

    refused("checkpoint.pt: exists: give --resume, or another --out")
    refused("checkpoint.pt: there is none to resume", out=tmp_path, resume=True)
    refused(r"of another run: lr was 0\.002, is 0\.1", resume=True, lr=0.1)
    other = Path(shutil.copytree(root, tmp_path / "data"))
    for folder in ("images", "masks"):
        next(iter(sorted((other / folder).iterdir()))).unlink()
    refused("the training pairs are other ones", data=other, resume=True)
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged" / "checkpoint.pt").write_bytes(b"no checkpoint")
    refused("not a checkpoint of this script, or damaged", out=tmp_path / "damaged", resume=True)


def test_options_that_cannot_work_are_one_message(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="batch size 9 is more than the 8 training pairs"):
        train_parser.main(root, tmp_path, **{**OPTIONS, "batch_size": 9})
    with pytest.raises(SystemExit, match="--device nowhere: not usable here"):
        train_parser.main(root, tmp_path, **OPTIONS, device="nowhere")


def test_a_run_ends_by_the_clock(root: Path, tmp_path: Path) -> None:
    train_parser.main(root, tmp_path, **{**OPTIONS, "epochs": 10**6}, minutes=0.01, bf16=True)
    report = report_of(tmp_path)
    assert report["finished"] and 0.01 <= report["minutes"] < 1 and report["epochs"] < 100
