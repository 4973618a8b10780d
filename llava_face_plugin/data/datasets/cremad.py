"""CREMA-D (Cao et al., 2014): 7,442 clips of 91 actors who speak 12 sentences in 6 emotions.

File names and ``VideoDemographics.csv`` as in the public repository; the reader was not checked on its videos.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ..files import existing_folder, find_file
from ..manifest import Manifest
from ._clips import find_clips
from ._places import annotation_files, below
from ._rows import AGE_BINS, Part, Rows, age_groups, build, hash_split
from ._tables import arrow, as_text, read_table
from .base import DatasetInfo, ReadOptions

LIST = "SentenceFilenames.csv"
"""``Stimulus_Number, Filename``: the clips, as ``1001_DFA_ANG_XX``. Without it the video folder is listed."""

ACTORS = "VideoDemographics.csv"

EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
SENTENCES = ["IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI"]

DEMOGRAPHICS = {"gender": ("Male", "Female"), "race": ("African American", "Asian", "Caucasian")}
"""The columns Sex and Race; race "Unknown" is unknown here. Ethnicity is not used."""

_COLUMNS = {"gender": "Sex", "race": "Race"}
_NAME = rf"^(?P<actor>\d{{4}})_(?:{'|'.join(SENTENCES)})_(?P<emotion>{'|'.join(EMOTIONS)})_(?:LO|MD|HI|XX?)$"
_FOLDERS = ("Frames", "frames", "VideoFlash", ".")


def read(root: Path, options: ReadOptions) -> Manifest:
    """The acted emotion of every clip, and age, gender and race of its actor where ``VideoDemographics.csv`` is there.

    There is no official split: it is a hash of the actor (80/10/10, our default), so no actor is in two of them.
    The votes of the raters are not used. Raises ``FaceDataError``.
    """
    rows, stems = _listing(root, options)
    pa, pc = arrow(), arrow("compute")
    fields = pc.extract_regex(as_text(stems), _NAME)
    good = fields.is_valid().to_numpy(zero_copy_only=False)
    rows.drop(~good, "malformed name", lambda i: f"{stems[i]!s} is no name as 1001_DFA_ANG_XX")
    actor = pc.cast(pc.fill_null(pc.struct_field(fields, "actor"), "-1"), pa.int64()).to_numpy(zero_copy_only=False)
    emotion = pc.fill_null(pc.index_in(pc.struct_field(fields, "emotion"), pa.array(list(EMOTIONS))), -1)
    labels = {"expression": emotion.to_numpy(zero_copy_only=False).astype(np.int16)}
    classes = {"expression": tuple(EMOTIONS.values())}
    age, notes = None, ["the split is a hash of the actor"]
    people = find_file(root, ACTORS)
    if people is None and options.labels is not None:
        people = find_file(options.labels.parent, ACTORS)
    if people is not None:
        age, of_actors, said = _actors(people, actor)
        labels, classes = labels | of_actors, classes | DEMOGRAPHICS | {"age_group": AGE_BINS}
        notes += said
    else:
        notes.append(f"{ACTORS} is not there: age, gender and race are unknown")
    found = find_clips(root, options, below(root, options, _FOLDERS), stems, ".flv")
    part = Part(
        rows, found.images, hash_split(actor.astype(np.str_)), labels, age=age, identity=actor, present=found.present
    )
    sources = [rows.path, *([people] if people else [])]
    return build(
        INFO, root, options, [part], classes=classes, published={"all": 7_442}, notes=[*notes, *found.notes],
        sources=sources,
    )  # fmt: skip


def _listing(root: Path, options: ReadOptions) -> tuple[Rows, np.ndarray]:
    """The names of the clips without endings, from the official list or from the video folder."""
    if options.labels is not None or find_file(root, LIST) is not None:
        (name, path), *_ = annotation_files(root, options, (LIST,)).items()
        table = read_table(path, name, ("Filename",))
        rows = Rows.of(table)
        return rows, rows.names(table.strings("Filename"))
    folder = existing_folder(
        options.images or root / below(root, options, ("VideoFlash", *_FOLDERS)), "CREMA-D's clips"
    )
    names = sorted({Path(f.name).stem for f in folder.iterdir() if f.is_dir() or f.suffix.lower() in (".flv", ".mp4")})
    if not names:
        raise FaceDataError(f"{root}: neither {LIST} nor clips as {folder.name}/1001_DFA_ANG_XX.flv", "missing")
    return Rows(folder, len(names), lambda i: f"{folder}/{names[i]}"), np.array(names, dtype=np.str_)


def _actors(path: Path, actor: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], list[str]]:
    """Age (N,) float32 and labels of every clip's actor; notes on actors who are not in the file."""
    table = read_table(path, ACTORS, ("ActorID", "Age", "Sex", "Race"))
    number, years = table.numbers("ActorID"), table.numbers("Age")
    years = np.where((years >= 0) & (years <= 120), years, np.nan)
    codes = {name: table.codes(_COLUMNS[name], values) for name, values in DEMOGRAPHICS.items()}
    unread = np.isnan(number) | np.isnan(years) | (codes["gender"] < 0)
    unread |= (codes["race"] < 0) & (table.codes("Race", ["Unknown"]) < 0)
    bad = sorted([*table.lines[unread].tolist(), *(line for line, _ in table.ragged)])
    order = np.argsort(number, kind="stable")
    at = order[np.clip(np.searchsorted(number[order], actor), 0, len(order) - 1)]
    there = number[at] == actor
    age = np.where(there, years[at], np.nan).astype(np.float32)
    labels = {name: np.where(there, found[at], -1).astype(np.int16) for name, found in codes.items()}
    lost = sorted({int(a) for a in actor[~there & (actor >= 0)]})
    shown = ", ".join(map(str, lost[:5]))
    notes = [f"{path.name} lacks {len(lost)} actors of the clips ({shown}): unknown there"] if lost else []
    if bad:
        notes.append(f"{path}, line {bad[0]}: not ActorID, Age, Sex and Race as published ({len(bad)} such rows)")
    return age, labels | {"age_group": age_groups(age)}, notes


INFO = DatasetInfo(
    name="cremad",
    title="CREMA-D",
    citation="Cao et al., CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE Transactions on Affective "
    "Computing, 2014",
    licence="Open Database License 1.0, contents under the Database Contents License (LICENSE.txt of the repository)",
    layout="SentenceFilenames.csv (or the names in VideoFlash/)\nVideoDemographics.csv (optional)\n"
    "VideoFlash/1001_DFA_ANG_XX.flv, with frames in VideoFlash/1001_DFA_ANG_XX/ or Frames/1001_DFA_ANG_XX/",
    read=read,
    groups=("gender", "race", "age_group"),
)
