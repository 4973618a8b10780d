"""CelebV-HQ's clips as FaVChat's three stages: on files in the published format, made here (no real file is ours)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.data.clip_facts import ACTION, APPEARANCE, EMOTION, ClipFacts, Span
from llava_face_plugin.data.clip_quality import Quality
from llava_face_plugin.data.clip_questions import hard_questions, questions
from llava_face_plugin.data.clip_summaries import LOOKS, summary
from llava_face_plugin.data.manifest_file import load_manifest
from llava_face_plugin.data.prepare_clips import STAGES, ClipOptions, prepare_clips
from llava_face_plugin.data.wording import ACTIONS, bare_question
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.video.write import can_write_mp4, write_frames, write_mp4

SHARES = {"talk": 0.77, "smile": 0.3, "yawn": 0.02, "male": 0.5, "young": 0.6, "no_beard": 0.8}
"""Others: 0.1. Skewed as the real set is (its repository's statistics)."""


def entry(rng: np.random.Generator, video: str) -> dict[str, Any]:
    """A clip as the README of CelebV-HQ shows it."""
    emotion = str(rng.choice(EMOTION, p=[0.62, 0.06, 0.02, 0.02, 0.17, 0.02, 0.07, 0.02]))
    labels: Any = emotion
    if changes := rng.random() < 0.15:
        labels = [
            {"emotion": "neutral", "start_sec": 0, "end_sec": 0.28000000000000114},
            {"emotion": "happy", "start_sec": 1.28, "end_sec": 3.28},
        ]
    draw = {name: int(rng.random() < SHARES.get(name, 0.1)) for name in (*APPEARANCE, *ACTION)}
    return {
        "ytb_id": video,
        "duration": {"start_sec": 52.72, "end_sec": 56.1},
        "bbox": {"top": 0.0, "bottom": 0.8407, "left": 0.5271, "right": 1.0},
        "attributes": {
            "appearance": [draw[n] for n in APPEARANCE], "action": [draw[n] for n in ACTION],
            "emotion": {"sep_flag": bool(changes), "labels": labels},
        },
        "version": "v0.1",
    }  # fmt: skip


def write(root: Path, n: int = 240, change: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """The annotation file, and an empty file for each clip; returns the clips."""
    rng = np.random.default_rng(0)
    clips = {f"{f'v{i // 3:04d}'}_-A{i % 3}": entry(rng, f"v{i // 3:04d}") for i in range(n)}
    if change is not None:
        change(clips)
    info = {"meta_info": {"appearance_mapping": list(APPEARANCE), "action_mapping": list(ACTION)}, "clips": clips}
    folder = root / "downloaded_celebvhq/processed"
    folder.mkdir(parents=True)
    (root / "celebvhq_info.json").write_text(json.dumps(info))
    for clip in clips:
        (folder / f"{clip}.mp4").touch()
    return clips


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("celebv")
    return root, write(root)


def rows(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())


def turns(row: dict[str, Any]) -> list[tuple[str, str]]:
    said = [c["value"].removeprefix("<image>\n") for c in row["conversations"]]
    return list(zip(said[::2], said[1::2], strict=True))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage(copy: tuple[Path, dict[str, Any]], stage: str, tmp_path: Path) -> None:
    root, clips = copy
    prepared = prepare_clips(root, tmp_path, ClipOptions(stage))  # type: ignore[arg-type]
    manifest = load_manifest(prepared.files["manifest"])
    split = dict(zip((Path(i).stem for i in manifest.images.tolist()), manifest.split.tolist(), strict=True))
    videos: dict[str, set[str]] = {}
    for number, name in enumerate(("train", "val")):
        own = rows(prepared.files[f"{stage}_{name}"])
        assert prepared.rows[f"{stage}_{name}"] == len(own) and len({r["id"] for r in own}) == len(own)
        videos[name] = set()
        for row in own:
            clip = Path(row["video"]).stem
            assert row["video"] == f"downloaded_celebvhq/processed/{clip}.mp4" and "image" not in row
            assert row["id"].partition(":")[0] == clip and split[clip] == number
            assert len(row["face_attributes"]) == 83 and row["conversations"][0]["value"].startswith("<image>\n")
            assert row["face_attributes"]["talk"] == clips[clip]["attributes"]["action"][ACTION.index("talk")]
            videos[name].add(clips[clip]["ytb_id"])
    tested = {clips[clip]["ytb_id"] for clip, number in split.items() if number == 2}
    assert tested and not videos["train"] & videos["val"] and not tested & (videos["train"] | videos["val"])
    again = prepare_clips(root, tmp_path / "again", ClipOptions(stage))  # type: ignore[arg-type]
    name = f"{stage}_train"
    assert again.files[name].read_bytes() == prepared.files[name].read_bytes()


def test_the_answers_are_the_labels(copy: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Read back from the JSON alone, against the annotation file."""
    root, clips = copy
    prepared = prepare_clips(root, tmp_path, ClipOptions("qa", k=6))
    asked: dict[str, Counter[str]] = defaultdict(Counter)
    kinds: Counter[str] = Counter()
    by_question = {bare_question(n).rstrip("?").lower(): n for n in (*APPEARANCE, *ACTION, *EMOTION)}
    for row in rows(prepared.files["qa_train"]):
        labels = clips[Path(row["video"]).stem]["attributes"]
        emotion = labels["emotion"]["labels"]
        course = [emotion] if isinstance(emotion, str) else [e["emotion"] for e in emotion]
        kind = row["id"].partition(":")[2].rstrip("0123456789")
        kinds[kind] += 1
        for question, answer in turns(row):
            options = question.rpartition("Choose one: ")[2].rstrip(".").split(", ")
            if kind == "closed":
                (name,) = {n for text, n in by_question.items() if text in question.lower()}
                asked[name][answer] += 1
                where = {n: v for names, v in ((APPEARANCE, labels["appearance"]), (ACTION, labels["action"]))
                         for n, v in zip(names, v, strict=True)} | {e: int(e in course) for e in EMOTION}  # fmt: skip
                assert answer == ("Yes" if where[name] else "No"), (row["id"], name)
            elif kind == "change":
                asked[kind][answer] += 1
                assert answer == ("Yes" if len(set(course)) > 1 else "No")
            elif kind == "action":
                done = {ACTIONS[a] for a, v in zip(ACTION, labels["action"], strict=True) if v}
                assert set(options) & done == {answer} and len(options) == 4
            elif "first" in question:
                assert answer == LOOKS[course[0]] and sorted(options) == sorted(LOOKS.values())
            elif "end of the video" in question:
                assert answer == LOOKS[course[-1]]
            elif kind == "course":
                assert answer == "From neutral to happy" and course == ["neutral", "happy"]
            else:
                assert kind == "emotion" and course == [next(k for k, v in LOOKS.items() if v == answer)]
    assert set(kinds) == {"closed", "action", "emotion", "course", "change"}
    assert all(said["Yes"] == said["No"] for said in asked.values()), "yes and no equally often, topic by topic"
    assert len(asked) > 70
    common, rare = sum(asked["talk"].values()), sum(asked["yawn"].values())
    assert common <= 20 * rare, "77 % against 2 % in the clips"
    clips_there = int((prepared.manifest.split == 0).sum())  # type: ignore[union-attr]
    assert 3 * clips_there < prepared.rows["qa_train questions"] <= 6 * clips_there, "k is the most on average"


def facts(clip: str, *, emotions: Sequence[Span] = (Span("neutral"),), on: Sequence[str] = ()) -> ClipFacts:
    attributes = dict.fromkeys((*APPEARANCE, *ACTION, *EMOTION), 0)
    attributes |= dict.fromkeys(on, 1) | {span.emotion: 1 for span in emotions}
    return ClipFacts(clip, clip, attributes, tuple(emotions), 4.0, (0.0, 0.9, 0.1, 0.9))


def test_a_summary_by_hand() -> None:
    spans = (Span("neutral", 0.0, 0.28), Span("happy", 1.28, 3.28))
    clip = facts("a", emotions=spans, on=("male", "young", "black_hair", "no_beard", "talk", "nod"))
    _, text = summary(clip, 0)
    _, _, said = text.partition(" shows ")
    assert said.startswith("a young man.") and "black hair" in said and "no beard" in said
    assert "nodding and talking" in said, "in the order of the file"
    assert said.endswith("He first looks neutral (from 0.0 to 0.3 seconds), then happy (from 1.3 to 3.3 seconds).")
    assert summary(facts("b", on=("talk",)), 0)[1].endswith("looks neutral throughout.")
    assert len({summary(replace(clip, id=str(i)), 0)[0] for i in range(30)}) > 2, "several requests"
    twice = (Span("sadness", 0.0, 1.0), Span("sadness", 2.0, 3.0))
    assert facts("c", emotions=twice).course == ("sadness",)


def test_an_emotion_of_a_part_of_the_clip_is_not_one_of_all_of_it() -> None:
    """Clips of 4 seconds; 90 % of them are 3.6."""
    parts = {
        "from 2.0 to 3.0 seconds": (Span("happy", 2.0, 3.0),),
        "from 0.0 to 3.5 seconds": (Span("happy", 0.0, 3.5),),
        "from 0.0 to 1.0 seconds and from 2.0 to 3.0 seconds": (Span("happy", 0.0, 1.0), Span("happy", 2.0, 3.0)),
        "from 0.0 to 2.0 seconds and from 0.0 to 2.0 seconds": (Span("happy", 0.0, 2.0), Span("happy", 0.0, 2.0)),
    }
    for times, spans in parts.items():
        clip = facts("part", emotions=spans)
        assert summary(clip, 0)[1].endswith(f" happy {times}.") and not clip.steady
    for spans in ((Span("happy"),), (Span("happy", 0.2, 3.9),), (Span("happy", 0, 2.5), Span("happy", 1.5, 4.3))):
        clip = facts("whole", emotions=spans)
        assert summary(clip, 0)[1].endswith(" happy throughout.") and clip.steady
    clips = [facts(f"part{i}", emotions=(Span("happy", 2.0, 3.0),)) for i in range(20)]
    clips += [facts(f"change{i}", emotions=(Span("neutral", 0, 1), Span("happy", 2, 3))) for i in range(5)]
    clips += [facts(f"whole{i}") for i in range(5)]
    asked = [item for item in questions(clips, 50) if item.kind in ("change", "emotion")]
    assert {item.kind for item in asked} == {"change", "emotion"}
    assert not any(item.clip.startswith("part") for item in asked)


def test_hard_questions_are_a_balanced_subset() -> None:
    rng = np.random.default_rng(3)
    clips = []
    for i in range(300):
        spans = (Span("neutral", 0, 1), Span("happy", 2, 3)) if i % 7 == 0 else (Span(EMOTION[i % 16 % 8] if i % 16 < 8
                 else "neutral"),)  # fmt: skip
        clips.append(facts(str(i), emotions=spans, on=[a for a in ACTION if rng.random() < 0.1]))
    items = questions(clips, 6)
    hard = hard_questions(items, clips)
    assert set(hard) <= set(items) and 50 < len(hard) < 0.8 * len(items)
    calm = {c.id for c in clips if c.course == ("neutral",)}
    assert not any(item.clip in calm or item.topic in APPEARANCE for item in hard)
    said: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for item in hard:
        said[item.kind, item.topic][item.answer] += 1
    assert all(c["Yes"] == c["No"] for (kind, _), c in said.items() if kind in ("closed", "change"))
    kinds = [item.kind in ("course", "change") for item in hard]
    assert kinds == sorted(kinds), "what takes the order of frames comes last"


def test_filters_are_counted_and_named(tmp_path: Path) -> None:
    def change(clips: dict[str, Any]) -> None:
        names = list(clips)
        clips[names[0]].pop("duration")
        clips[names[1]]["duration"]["end_sec"] = 53.0
        clips[names[2]]["duration"]["end_sec"] = 152.72
        clips[names[3]].pop("bbox")
        clips[names[4]]["bbox"]["right"] = 1.2
        clips[names[5]]["bbox"] |= {"top": 0.5, "bottom": 0.51, "left": 0.5, "right": 0.51}
        clips[names[6]]["attributes"] |= {"appearance": [0] * 40, "action": [0] * 35}
        far = [{"emotion": "fear", "start_sec": 1, "end_sec": 9.0}, {"emotion": "happy", "start_sec": 0, "end_sec": 1}]
        clips[names[7]]["attributes"]["emotion"]["labels"] = far
        clips[names[8]]["attributes"]["emotion"]["labels"] = [{"emotion": "fear"}, {"emotion": "happy"}]
        clips[names[9]]["duration"]["end_sec"] = "56.1"

    clips = write(tmp_path, 60, change)
    names = list(clips)
    for name in names[10:13]:
        (tmp_path / f"downloaded_celebvhq/processed/{name}.mp4").unlink()
    prepared = prepare_clips(tmp_path, tmp_path / "out", knowledge=False)
    missing = sum(n for reason, n in prepared.skipped.items() if reason.startswith("no video file"))
    assert missing == 3
    others = {reason: n for reason, n in prepared.skipped.items() if not reason.startswith("no video file")}
    assert others == {
        "no duration": 2, "shorter than 1 s": 1, "longer than 60 s": 1, "no bounding box": 1,
        "bounding box outside the frame": 1, "bounding box too small": 1, "no appearance and no action labelled": 1,
        "emotion times missing or outside the clip": 2,
    }  # fmt: skip
    assert prepared.manifest is not None
    assert all(any(name in told for told in prepared.manifest.problems) for name in names[:13])
    written = {row["id"] for s in ("train", "val") if f"summary_{s}" in prepared.files
               for row in rows(prepared.files[f"summary_{s}"])}  # fmt: skip
    assert not written & set(names[:13])
    for bad in ({"min_seconds": -1.0}, {"min_seconds": 5.0, "max_seconds": 4.0}):
        with pytest.raises(FaceDataError, match="quality"):
            Quality(**bad)


@pytest.mark.skipif(not can_write_mp4(), reason="neither PyAV nor OpenCV is installed")
def test_files_are_decoded_on_demand(tmp_path: Path) -> None:
    clips = list(write(tmp_path, 30))
    folder = tmp_path / "downloaded_celebvhq/processed"
    good = np.zeros((3, 256, 256, 3), dtype=np.uint8)
    for name in clips:
        write_mp4(folder / f"{name}.mp4", good, 8)
    trains = [Path(r["video"]).stem for r in rows(prepare_clips(tmp_path, tmp_path / "a").files["summary_train"])]
    write_mp4(folder / f"{trains[0]}.mp4", good[:, :64, :64], 8)
    (folder / f"{trains[1]}.mp4").write_bytes((folder / f"{trains[1]}.mp4").read_bytes()[:300])
    (folder / f"{trains[2]}.mp4").unlink()
    write_frames(folder / trains[2], good)
    checked = prepare_clips(tmp_path, tmp_path / "b", ClipOptions(check_videos=True))
    assert checked.skipped == {"frames below 256 pixels": 1, "video damaged": 1}
    left = {Path(r["video"]).name for r in rows(checked.files["summary_train"])}
    assert trains[2] in left and not {f"{trains[0]}.mp4", f"{trains[1]}.mp4"} & left


class Shouting:
    name = "shouting"

    def summary(self, text: str, clip: ClipFacts) -> str:
        return text.upper()

    def question(self, text: str, clip: ClipFacts) -> str:
        return f"Tell me: {text}"


def test_a_rewriter_is_optional_and_watched(copy: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    root, _ = copy
    plain = prepare_clips(root, tmp_path / "a", knowledge=False)
    loud = prepare_clips(root, tmp_path / "b", rewriter=Shouting(), knowledge=False)
    pairs = zip(rows(plain.files["summary_train"]), rows(loud.files["summary_train"]), strict=True)
    assert all(turns(b)[0] == (turns(a)[0][0], turns(a)[0][1].upper()) for a, b in pairs)
    assert any("reworded by: shouting" in note for note in loud.notes)
    asked = prepare_clips(root, tmp_path / "c", ClipOptions("qa"), rewriter=Shouting(), knowledge=False)
    assert all(q.startswith("Tell me: ") for r in rows(asked.files["qa_train"]) for q, _ in turns(r))

    class Careless(Shouting):
        def summary(self, text: str, clip: ClipFacts) -> str:
            return " "

        def question(self, text: str, clip: ClipFacts) -> str:
            return "What is it?"

    for stage, message in (("summary", "gave no text for a summary"), ("qa", "lost '.*' from a question")):
        with pytest.raises(FaceDataError, match=message):
            prepare_clips(root, tmp_path / "d", ClipOptions(stage), rewriter=Careless(), knowledge=False)  # type: ignore[arg-type]


def test_from_the_command_line(copy: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    root, _ = copy
    arguments = ["prepare", "celebv-hq", "--root", str(root), "--out", str(tmp_path)]
    for stage in STAGES:
        result = CliRunner().invoke(app, [*arguments, "--stage", stage])
        assert result.exit_code == 0, result.output
        assert "non-commercial research only" in result.output and "--video_folder" in result.output
    assert all((tmp_path / f"{stage}_train.json").is_file() for stage in STAGES), "the stages share a folder"
    for wrong, message in (
        (["--stage", "first"], "unknown stage"), (["--stage", "qa", "--balance"], "leave --styles"),
        (["--check-videos"], "give --stage too"),
    ):  # fmt: skip
        result = CliRunner().invoke(app, [*arguments, *wrong])
        assert result.exit_code == 1 and message in str(result.exception)


def test_made_video_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "clips"
    arguments = ["prepare", "made-video", "--out", str(out), "--train", "4", "--val", "0", "--size", "48x56"]
    result = CliRunner().invoke(app, [*arguments, "--frames", "9"])
    assert result.exit_code == 0, result.output
    assert (out / "made-video.knowledge.safetensors").is_file() and "--video_folder" in result.output
    result = CliRunner().invoke(app, [*arguments, "--frames", "4"])
    assert result.exit_code == 1 and "at least 9 frames" in str(result.exception)


def test_nothing_there(tmp_path: Path) -> None:
    write(tmp_path, 12)
    for path in (tmp_path / "downloaded_celebvhq/processed").iterdir():
        path.unlink()
    with pytest.raises(FaceDataError, match="none of the 12 clips is here"):
        prepare_clips(tmp_path, tmp_path / "out")
