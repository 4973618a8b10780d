"""CelebV-HQ (Zhu et al., ECCV 2022): 35,666 clips with 83 attributes of appearance, action and emotion.

Layout as in the repository's README (``celebvhq_info.json``); not checked on real files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FaceDataError
from ...registry import unknown_name
from ..files import read_text
from ..manifest import Manifest
from ._clips import find_clips
from ._places import annotation_files, below
from ._rows import Part, Rows, build, hash_split, numbered
from .base import DatasetInfo, ReadOptions

FILE = "celebvhq_info.json"

APPEARANCE = (
    "blurry", "male", "young", "chubby", "pale_skin", "rosy_cheeks", "oval_face", "receding_hairline", "bald", "bangs",
    "black_hair", "blonde_hair", "gray_hair", "brown_hair", "straight_hair", "wavy_hair", "long_hair",
    "arched_eyebrows", "bushy_eyebrows", "bags_under_eyes", "eyeglasses", "sunglasses", "narrow_eyes", "big_nose",
    "pointy_nose", "high_cheekbones", "big_lips", "double_chin", "no_beard", "5_o_clock_shadow", "goatee", "mustache",
    "sideburns", "heavy_makeup", "wearing_earrings", "wearing_hat", "wearing_lipstick", "wearing_necklace",
    "wearing_necktie", "wearing_mask",
)  # fmt: skip
ACTION = (
    "blow", "chew", "close_eyes", "cough", "cry", "drink", "eat", "frown", "gaze", "glare", "head_wagging", "kiss",
    "laugh", "listen_to_music", "look_around", "make_a_face", "nod", "play_instrument", "read", "shake_head", "shout",
    "sigh", "sing", "sleep", "smile", "smoke", "sneer", "sneeze", "sniff", "talk", "turn", "weep", "whisper", "wink",
    "yawn",
)  # fmt: skip
EMOTION = ("neutral", "anger", "contempt", "disgust", "happy", "fear", "sadness", "surprise")
VOCABULARY = APPEARANCE + ACTION + EMOTION
"""40 + 35 + 8 names in lower case; the file's may differ in case and order."""

FOLDERS = ("downloaded_celebvhq/processed", "processed", "35666", ".")


def read(root: Path, options: ReadOptions) -> Manifest:
    """83 attributes of every clip, and ``expression``, its emotion.

    A clip with several emotions in turn has all of them as attributes, and an unknown expression. There are no
    official splits: the split is a hash of the YouTube video (80/10/10, our default). Which person is shown is
    not published: ``identity`` numbers the YouTube videos. Raises ``FaceDataError``.
    """
    (name, path), *_ = annotation_files(root, options, (FILE,)).items()
    clips, orders = load_info(path, name)
    keys = list(clips)
    rows = Rows(path, len(keys), lambda i: f"{path}, clip {keys[i]}")
    stems = rows.names(np.array(keys, dtype=np.str_))
    attributes = np.zeros((len(keys), len(VOCABULARY)), dtype=np.int8)
    expression = np.full(len(keys), -1, dtype=np.int16)
    for kind, names, at in (("appearance", APPEARANCE, 0), ("action", ACTION, len(APPEARANCE))):
        values = _matrix(rows, [value_at(clips[k], "attributes", kind) for k in keys], kind, len(names))
        attributes[:, at : at + len(names)] = values[:, orders[kind]]
    _emotions(rows, [value_at(clips[k], "attributes", "emotion") for k in keys], attributes, expression)
    ids = [value_at(clips[k], "ytb_id") for k in keys]
    videos = np.array([v if isinstance(v, str) else "" for v in ids], dtype=np.str_)
    rows.drop(videos == "", "no ytb_id", "no ytb_id")
    found = find_clips(root, options, below(root, options, FOLDERS), stems, ".mp4")
    part = Part(
        rows, found.images, hash_split(videos), {"expression": expression}, attributes,
        identity=numbered(videos), present=found.present,
    )  # fmt: skip
    notes = ["identity stands for the YouTube video: which clips show one person is not published", *found.notes]
    return build(
        INFO, root, options, [part], classes={"expression": EMOTION}, vocabulary=VOCABULARY,
        published={"all": 35_666}, notes=notes,
    )  # fmt: skip


def load_info(path: Path, name: str) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The clips, and for each kind of attribute the places in the file of the names in ``VOCABULARY``."""
    try:
        data = json.loads(read_text(path, name), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise FaceDataError(
            f"{path}, line {error.lineno}: no JSON ({error.msg}): is it complete?", "damaged"
        ) from error
    except RecursionError as error:
        raise FaceDataError(f"{path}: JSON nested too deeply", "format") from error
    except ValueError as error:
        if isinstance(error, FaceDataError):
            raise
        raise FaceDataError(f"{path}: {error}", "format") from error
    clips, meta = value_at(data, "clips"), value_at(data, "meta_info") or value_at(data, "mete_info")
    if not isinstance(clips, dict) or not isinstance(meta, dict):
        raise FaceDataError(f"{path}: expected an object with 'meta_info' and 'clips'", "format")
    return clips, {
        "appearance": _order(path, meta.get("appearance_mapping"), "appearance_mapping", APPEARANCE),
        "action": _order(path, meta.get("action_mapping"), "action_mapping", ACTION),
    }


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [k for k, _ in pairs]
        raise ValueError(f"the key {next(k for i, k in enumerate(keys) if k in keys[:i])!r} occurs twice")
    return found


def _order(path: Path, names: Any, key: str, expected: tuple[str, ...]) -> list[int]:
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise FaceDataError(f"{path}, meta_info: expected a list of names as {key!r}", "format")
    lower = [n.strip().lower().replace(" ", "_") for n in names]
    for name in lower:
        if name not in expected:
            raise FaceDataError(f"{path}, {key}: {unknown_name('attribute', name, expected)}", "format")
    missing = [n for n in expected if n not in lower]
    if missing or len(lower) != len(expected):
        lacks = f", without {', '.join(missing)}" if missing else ""
        raise FaceDataError(
            f"{path}, {key}: expected {len(expected)} names once each, found {len(lower)}{lacks}", "format"
        )
    return [lower.index(n) for n in expected]


def value_at(value: Any, *keys: str) -> Any:
    """``value[key][key]...``, None where there is no such thing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _matrix(rows: Rows, lists: list[Any], kind: str, width: int) -> np.ndarray:
    """(N, width) int8 of 0 and 1; rows with anything else are left out."""
    good = np.array([
        isinstance(v, list) and len(v) == width and all(type(x) is int and 0 <= x <= 1 for x in v) for v in lists
    ], dtype=bool)  # fmt: skip
    rows.drop(~good, f"bad {kind}", f"expected {width} values of 0 or 1 as {kind}")
    values = np.zeros((len(lists), width), dtype=np.int8)
    values[good] = [v for v, g in zip(lists, good, strict=True) if g] if good.any() else 0
    return values


def _emotions(rows: Rows, found: list[Any], attributes: np.ndarray, expression: np.ndarray) -> None:
    """Fill the last columns of ``attributes``, and ``expression`` where a clip has one emotion only."""
    place, first = {e: i for i, e in enumerate(EMOTION)}, len(APPEARANCE) + len(ACTION)
    bad = np.zeros(len(found), dtype=bool)
    for i, emotion in enumerate(found):
        labels = value_at(emotion, "labels")
        names = [value_at(x, "emotion") for x in labels] if isinstance(labels, list) else [labels]
        bad[i] = not names or not all(isinstance(n, str) and n.lower() in place for n in names)
        if bad[i]:
            continue
        places = sorted({place[n.lower()] for n in names})
        attributes[i, [first + p for p in places]] = 1
        expression[i] = places[0] if len(places) == 1 else -1
    rows.drop(bad, "unknown emotion", lambda i: f"emotion {str(found[i])[:60]!r} is none of {', '.join(EMOTION)}")


INFO = DatasetInfo(
    name="celebvhq",
    title="CelebV-HQ",
    citation="Zhu et al., CelebV-HQ: A Large-Scale Video Facial Attributes Dataset, ECCV 2022",
    licence="non-commercial research only, no further copies beyond one site of one organisation (repository README)",
    layout="celebvhq_info.json\ndownloaded_celebvhq/processed/M2Ohb0FAaJU_1/00001.jpg (frames) or ....mp4",
    read=read,
    groups=("male", "young"),
)
