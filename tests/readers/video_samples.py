"""Small copies of the video sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from sample_parts import TEST, TRAIN, Truth, bin_of, text, touch

from llava_face_plugin.data.datasets.celebvhq import ACTION, APPEARANCE

EMOTIONS = ["neutral", "anger", "contempt", "disgust", "happy", "fear", "sadness", "surprise"]


def celebvhq(root: Path, rng: np.random.Generator) -> Truth:
    clips: dict[str, Any] = {}
    appearance, action = rng.integers(0, 2, (24, 40)), rng.integers(0, 2, (24, 35))
    emotions, words, people = np.zeros((24, 8), dtype=int), [], []
    for i in range(24):
        video = f"M2Ohb0FA{i // 2:03d}"
        first = int(rng.integers(0, 8))
        second = (first + 3) % 8
        several = i % 5 == 0
        labels: Any = EMOTIONS[first]
        if several:
            labels = [
                {"emotion": EMOTIONS[e], "start_sec": s, "end_sec": s + 1.5} for s, e in ((0, first), (2, second))
            ]
        emotions[i, [first, second] if several else [first]] = 1
        words.append("" if several else EMOTIONS[first])
        people.append(video)
        clips[f"{video}_{i % 2}"] = {
            "ytb_id": video,
            "duration": {"start_sec": 81.62, "end_sec": 86.17},
            "bbox": {"top": 0.0, "bottom": 0.8815, "left": 0.1964, "right": 0.6922},
            "attributes": {
                "appearance": appearance[i].tolist(), "action": action[i].tolist(),
                "emotion": {"sep_flag": several, "labels": labels},
            },
            "version": "v0.1",
        }  # fmt: skip
    names = [n.capitalize() for n in APPEARANCE]
    info = {"meta_info": {"appearance_mapping": names, "action_mapping": list(ACTION)}, "clips": clips}
    (root / "celebvhq_info.json").write_text(json.dumps(info, indent=1))
    images = [f"downloaded_celebvhq/processed/{clip}/00002.jpg" for clip in clips]
    touch(root, images + [i.replace("00002", n) for i in images for n in ("00001", "00003")])
    values = np.concatenate([appearance, action, emotions], axis=1)
    return Truth(images, None, {"expression": words}, values, annotations=("celebvhq_info.json",), people=people)


VIDEO_WORDS = ["happy", "sad", "neutral", "angry", "surprise", "disgust", "fear"]


def dfew(root: Path, rng: np.random.Generator) -> Truth:
    truth = Truth([], [], {"expression": []})
    numbers = iter(rng.permutation(np.arange(1, 200)))
    for fold in (1, 2):
        for split, n in ((TRAIN, 20), (TEST, 8)):
            word = "train" if split == TRAIN else "test"
            rows = ["video_name,label"]
            for _ in range(n):
                number, code = int(next(numbers)), int(rng.integers(1, 8))
                rows.append(f"{number},{code}")
                if fold == 1:
                    truth.images.append(f"Clip/clip_224x224/{number:05d}/{number:05d}_00003.jpg")
                    truth.split.append(split)  # type: ignore[union-attr]
                    truth.labels["expression"].append(VIDEO_WORDS[code - 1])
            text(root, f"EmoLabel_DataSplit/{word}(single-labeled)/set_{fold}.csv", rows)
    touch(root, [i.replace("_00003", f"_{n:05d}") for i in truth.images for n in (1, 2, 3, 4)])
    truth.annotations = tuple(f"EmoLabel_DataSplit/{w}(single-labeled)/set_1.csv" for w in ("train", "test"))
    return truth


def mafw(root: Path, rng: np.random.Generator) -> Truth:
    words = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt", "anxiety"]
    words += ["helplessness", "disappointment"]
    truth = Truth([], [], {"expression": []})
    numbers = iter(rng.permutation(np.arange(1, 100)))
    for split, n in ((TRAIN, 24), (TEST, 8)):
        word = "train" if split == TRAIN else "test"
        rows = []
        for _ in range(n):
            number, emotion = int(next(numbers)), str(rng.choice(words))
            rows.append(f"{number:05d}.mp4 {emotion}")
            truth.images.append(f"data/frames/{number:05d}/00002.png")
            truth.split.append(split)  # type: ignore[union-attr]
            truth.labels["expression"].append(emotion)
        text(root, f"Train & Test Set/single/no_caption/set_1/{word}.txt", rows)
    touch(root, truth.images + [i.replace("00002", "00001") for i in truth.images])
    truth.annotations = tuple(f"Train & Test Set/single/no_caption/set_1/{w}.txt" for w in ("train", "test"))
    return truth


def ferv39k(root: Path, rng: np.random.Generator) -> Truth:
    truth = Truth([], [], {"expression": []})
    number = 0
    for split, n in ((TRAIN, 24), (TEST, 8)):
        rows = []
        for _ in range(n):
            number += 1
            word = str(rng.choice(VIDEO_WORDS))
            clip = f"{rng.choice(['Action', 'Crime', 'Daily_life'])}/{word.capitalize()}/{number:04d}"
            rows.append(f"{clip} {word.capitalize()}")
            truth.images.append(f"2_ClipsforFaceCrop/{clip}/00005.jpg")
            truth.split.append(split)  # type: ignore[union-attr]
            truth.labels["expression"].append(word)
        text(root, f"4_setups/All_scenes/{'train' if split == TRAIN else 'test'}_All.csv", rows)
    touch(root, truth.images)
    truth.annotations = tuple(f"4_setups/All_scenes/{w}_All.csv" for w in ("train", "test"))
    return truth


def cremad(root: Path, rng: np.random.Generator) -> Truth:
    emotion = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
    races = ["Caucasian", "African American", "Asian", "Unknown"]
    actors = {
        number: (int(rng.integers(20, 75)), str(rng.choice(["Male", "Female"])), str(rng.choice(races)))
        for number in range(1001, 1013)
    }
    rows = [f'{n},{a},"{s}","{r}","Not Hispanic"' for n, (a, s, r) in actors.items()]
    text(root, "VideoDemographics.csv", ['"ActorID","Age","Sex","Race","Ethnicity"', *rows])
    names = [f"{a}_{s}_{rng.choice(list(emotion))}_{rng.choice(['LO', 'MD', 'HI', 'XX'])}"
             for a in actors for s in ("DFA", "IEO", "WSI")]  # fmt: skip
    text(root, "SentenceFilenames.csv", ["Stimulus_Number,Filename", *(f"{i},{n}" for i, n in enumerate(names, 1))])
    images = [f"VideoFlash/{n}/00001.jpg" for n in names]
    touch(root, images)
    who = [actors[int(n[:4])] for n in names]
    labels = {
        "expression": [emotion[n.split("_")[2]] for n in names],
        "gender": [s for _, s, _ in who],
        "race": ["" if r == "Unknown" else r for *_, r in who],
        "age_group": [bin_of(a) for a, *_ in who],
    }
    people, files = [n[:4] for n in names], ("SentenceFilenames.csv", "VideoDemographics.csv")
    return Truth(images, None, labels, age=[float(a) for a, *_ in who], annotations=files, people=people)
