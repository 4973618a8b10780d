"""Small copies of every data set, written as their authors publish them, with the truth beside them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mat_samples import lfwa
from sample_parts import TEST, TRAIN, VAL, Truth, bin_of, text, touch
from video_samples import celebvhq, cremad, dfew, ferv39k, mafw

from llava_face_plugin.data.datasets.lfw_attributes import COLUMNS as LFW_COLUMNS
from llava_face_plugin.data.datasets.maadface import ATTRIBUTES as MAAD_ATTRIBUTES


def fairface(root: Path, rng: np.random.Generator) -> Truth:
    ages = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]
    races = ["East Asian", "Indian", "Black", "White", "Middle Eastern", "Latino_Hispanic", "Southeast Asian"]
    images = [f"train/{i}.jpg" for i in range(1, 31)] + [f"val/{i}.jpg" for i in range(1, 11)]
    age, race = rng.choice(ages, 40).tolist(), rng.choice(races, 40).tolist()
    gender = rng.choice(["Male", "Female"], 40).tolist()
    rows = [f"{f},{a},{g},{r},{'True' if i % 3 else 'False'}" for i, (f, a, g, r) in
            enumerate(zip(images, age, gender, race, strict=True))]  # fmt: skip
    head = "file,age,gender,race,service_test"
    text(root, "fairface_label_train.csv", [head, *rows[:30]])
    text(root, "fairface_label_val.csv", [head, *rows[30:]])
    touch(root, images)
    files = ("fairface_label_train.csv", "fairface_label_val.csv")
    labels = {"age_group": age, "gender": gender, "race": race}
    return Truth(images, [TRAIN] * 30 + [VAL] * 10, labels, annotations=files)


def utkface(root: Path, rng: np.random.Generator) -> Truth:
    age, gender, race = rng.integers(0, 117, 40), rng.integers(0, 2, 40), rng.integers(0, 5, 40)
    names = [f"{age[i]}_{gender[i]}_{race[i]}_201701161840283{i:02d}.jpg.chip.jpg" for i in range(39)]
    names.append(f"{age[39]}_{gender[39]}_{race[39]}_20170116220224657 .jpg.chip.jpg")
    order = sorted(range(40), key=lambda i: names[i])
    images = [f"UTKFace/{names[i]}" for i in order]
    touch(root, images)
    labels = {
        "gender": [("male", "female")[gender[i]] for i in order],
        "race": [("White", "Black", "Asian", "Indian", "Others")[race[i]] for i in order],
        "age_group": [bin_of(age[i]) for i in order],
    }
    return Truth(images, None, labels, age=[float(age[i]) for i in order])


def rafdb(root: Path, rng: np.random.Generator) -> Truth:
    words = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    names = [f"train_{i:05d}" for i in range(1, 25)] + [f"test_{i:04d}" for i in range(1, 9)]
    codes = rng.integers(1, 8, 32)
    text(root, "EmoLabel/list_patition_label.txt", [f"{n}.jpg {c}" for n, c in zip(names, codes, strict=True)])
    gender, race, age = rng.integers(0, 3, 32), rng.integers(0, 3, 32), rng.integers(0, 5, 32)
    points = ["33.5\t41.25", "66.0\t41.5", "50.0\t60.0", "38.0\t75.0", "62.0\t75.5"]
    for i, n in enumerate(names):
        text(root, f"Annotation/manual/{n}_manu_attri.txt", [*points, str(gender[i]), str(race[i]), str(age[i])])
    images = [f"Image/aligned/{n}_aligned.jpg" for n in names]
    touch(root, images)
    labels = {
        "expression": [words[c - 1] for c in codes],
        "gender": [("male", "female", "")[g] for g in gender],
        "race": [("Caucasian", "African-American", "Asian")[r] for r in race],
        "age_group": [("0-3", "4-19", "20-39", "40-69", "70+")[a] for a in age],
    }
    return Truth(images, [TRAIN] * 24 + [TEST] * 8, labels, annotations=("EmoLabel/list_patition_label.txt",))


AFFECT = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt"]


def affectnet(root: Path, rng: np.random.Generator, classes: int = 8) -> Truth:
    head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    truth = Truth([], [], {"expression": []}, annotations=("training.csv", "validation.csv"))
    for name, split, n in (("training.csv", TRAIN, 30), ("validation.csv", VAL, 12)):
        rows = [head]
        for i in range(n):
            code = int(rng.integers(0, classes))
            file = f"{rng.integers(1, 1500)}/{i:02d}{split}e{rng.integers(1 << 60):015x}.jpg"
            marks = ";".join(f"{x:.2f}" for x in rng.random(136) * 100)
            rows.append(f"{file},134,134,899,899,{marks},{code},{rng.uniform(-1, 1):.6f},0.0107143")
            truth.images.append(f"Manually_Annotated_Images/{file}")
            truth.split.append(split)  # type: ignore[union-attr]
            truth.labels["expression"].append(AFFECT[code])
        text(root, name, rows, "\r\n")
    touch(root, truth.images)
    return truth


def affectnet7(root: Path, rng: np.random.Generator) -> Truth:
    return affectnet(root, rng, 7)


def affectnet_folders(root: Path, rng: np.random.Generator) -> Truth:
    """The second release: not a registered data set of its own, but another layout of ``affectnet``."""
    truth = Truth([], [], {"expression": []})
    for folder, split, n in (("train_set", TRAIN, 12), ("val_set", VAL, 5)):
        place = root / folder / "annotations"
        place.mkdir(parents=True)
        for i in sorted(range(n), key=lambda i: f"{i}_"):
            code = int(rng.integers(0, 8))
            np.save(place / f"{i}_exp.npy", np.array(str(code) if i % 2 else code))
            for other in ("aro", "val", "lnd"):
                np.save(place / f"{i}_{other}.npy", np.array("0.25"))
            truth.images.append(f"{folder}/images/{i}.jpg")
            truth.split.append(split)  # type: ignore[union-attr]
            truth.labels["expression"].append(AFFECT[code])
    touch(root, truth.images)
    return truth


def ferplus(root: Path, rng: np.random.Generator) -> Truth:
    words = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    rows, truth = [f"Usage,Image name,{','.join(words)},unknown,NF"], Truth([], [], {"expression": []})
    usages = [("Training", "FER2013Train", TRAIN, 24), ("PublicTest", "FER2013Valid", VAL, 6)]
    number = 0
    for usage, folder, split, n in [*usages, ("PrivateTest", "FER2013Test", TEST, 6)]:
        for _ in range(n):
            winner, other = rng.choice(8, 2, replace=False)
            votes = np.zeros(10, dtype=int)
            votes[winner] = rng.integers(6, 11)
            votes[other] = 10 - votes[winner]
            rows.append(f"{usage},fer{number:07d}.png," + ",".join(map(str, votes)))
            truth.images.append(f"{folder}/fer{number:07d}.png")
            truth.split.append(split)  # type: ignore[union-attr]
            truth.labels["expression"].append(words[winner])
            number += 1
    text(root, "fer2013new.csv", rows)
    touch(root, truth.images)
    truth.annotations = ("fer2013new.csv",)
    return truth


def fer2013(root: Path, rng: np.random.Generator) -> Truth:
    truth = Truth([], [], {"expression": []})
    for split, folder, usage in ((TRAIN, "train", "Training"), (TEST, "test", "PublicTest")):
        for word in ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"):
            for number in sorted(rng.choice(9000, 4, replace=False) + 1000):
                truth.images.append(f"{folder}/{word}/{usage}_{number}.jpg")
                truth.split.append(split)  # type: ignore[union-attr]
                truth.labels["expression"].append(word)
    touch(root, truth.images)
    return truth


def maadface(root: Path, rng: np.random.Generator) -> Truth:
    values = rng.integers(-1, 2, (40, 47))
    people = [f"n{1 + i // 4:06d}" for i in range(40)]
    names = [f"{p}/{i:04d}_01.jpg" for i, p in enumerate(people)]
    rows = [f"{n},{int(p[1:])}," + ",".join(map(str, v)) for n, p, v in zip(names, people, values, strict=True)]
    text(root, "MAAD_Face.csv", [f"Filename,Identity,{','.join(MAAD_ATTRIBUTES)}", *rows])
    in_test = [int(p[1:]) % 5 == 0 for p in people]
    images = [f"{'test' if t else 'train'}/{n}" for n, t in zip(names, in_test, strict=True)]
    touch(root, images)
    meaning = np.select([values == 1, values == -1], [1, 0], -1)
    split = [TEST if t else TRAIN for t in in_test]
    return Truth(images, split, {}, meaning, annotations=("MAAD_Face.csv",), people=people)


def lfw_attributes(root: Path, rng: np.random.Generator) -> Truth:
    scores = rng.normal(0, 1.5, (36, 73))
    people = [f"Aaron {chr(65 + i // 3)}eckhart" for i in range(36)]
    rows = [f"{p}\t{1 + i % 3}\t" + "\t".join(repr(float(x)) for x in scores[i]) for i, p in enumerate(people)]
    head = ["# lfw_attributes.txt: attribute values", "#\tperson\timagenum\t" + "\t".join(LFW_COLUMNS)]
    text(root, "lfw_attributes.txt", [*head, *rows])
    stems = [p.replace(" ", "_") for p in people]
    images = [f"lfw-deepfunneled/{s}/{s}_{1 + i % 3:04d}.jpg" for i, s in enumerate(stems)]
    touch(root, images)
    return Truth(images, None, {}, (scores > 0).astype(int), annotations=("lfw_attributes.txt",), people=people)


SAMPLES: dict[str, Callable[[Path, np.random.Generator], Truth]] = {
    f.__name__: f
    for f in (
        affectnet, affectnet7, celebvhq, cremad, dfew, fairface, fer2013, ferplus, ferv39k, lfw_attributes,
        lfwa, maadface, mafw, rafdb, utkface,
    )
}  # fmt: skip


def npy(value: Any) -> bytes:
    """A ``.npy`` file with one value."""
    stream = io.BytesIO()
    np.save(stream, np.array(value))
    return stream.getvalue()
