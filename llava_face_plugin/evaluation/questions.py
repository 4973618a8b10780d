"""The questions of a task on disk: one parquet file, a row a question, a JSON header in its metadata. No images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import FaceDataError
from ..maps.files import atomic_path
from ..maps.shards import pyarrow

FORMAT = 1
KINDS = ("yes_no", "choice", "number", "labels", "text")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DATA_ENV = "FACE_EVAL_DATA"
"""The environment variable that names the folder of question files."""
_KEY = b"face_questions"


@dataclass(frozen=True)
class Question:
    """One question about one picture, several, or a clip."""

    question_id: str
    """Unique in the file."""
    image_id: str
    """Questions with the same one are about the same picture (or pair, or clip)."""
    images: tuple[str, ...]
    """Paths below the image root, posix."""
    kind: str
    """One of ``KINDS``: how the answer is read."""
    question: str
    """Without options and without the hint how to answer: tasks add these. Of kind ``text``: the whole prompt."""
    answer: tuple[str, ...]
    """Gold: ``("yes",)``, a letter of ``options``, a number as text, any of ``options`` for labels, text."""
    topic: str
    """What is asked about: attribute, closed-set label, action unit, ``same_person``."""
    options: tuple[str, ...] = ()
    """As shown, in the order shown."""
    permutation: tuple[int, ...] = ()
    """Place shown -> place in the data set's own order."""
    value: str = ""
    """The gold answer in the data set's own terms."""
    cluster: str = ""
    """Unit of the bootstrap: the person where known, else the image. Left out: ``image_id``."""
    groups: dict[str, str] = field(default_factory=dict)
    """Column -> group by which scores are split, "" = unknown. The same columns in all questions of a file."""
    fold: int = -1
    """Fold of a verification protocol; -1 = none."""
    video: str = ""
    """Path of a clip below the image root; "" = none."""


@dataclass
class Header:
    """What is known of a question file as a whole."""

    task: str
    dataset: str
    split: str
    seed: int
    image_root: str
    """Absolute folder of the images on the machine that made the file; ``FACE_EVAL_ROOT`` overrides it."""
    licence: str = ""
    sources: list[dict[str, Any]] = field(default_factory=list)
    """Files that the questions were made from: name, sha256."""
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    """Images or rows left out, by reason."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What one benchmark's scoring needs (rules, synonyms)."""
    rows: int = 0
    digest: str = ""
    """SHA-256 of all rows and of ``extra``: equal digests are equal benchmarks, scored alike."""
    format: int = FORMAT
    created_by: str = f"llava_face_plugin {__version__}"


def rotate(options: Sequence[str], right: int, *, seed: int, key: str) -> tuple[tuple[str, ...], tuple[int, ...], str]:
    """Options in a cyclic rotation drawn by ``seed`` and ``key``: (shown, permutation, letter of the right one).

    Cyclic, so that every option comes to stand at every place equally often (our default; Face-Human-Bench does so).
    """
    n = len(options)
    if not 2 <= n <= len(LETTERS):
        raise FaceDataError(f"question {key}: {n} options; expected 2 to {len(LETTERS)}")
    offset = int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big") % n
    permutation = tuple((place + offset) % n for place in range(n))
    return tuple(options[p] for p in permutation), permutation, LETTERS[permutation.index(right)]


def question_path(task: str, folder: str | Path | None = None) -> Path:
    """``FOLDER/TASK.parquet``, the folder by default ``$FACE_EVAL_DATA``; ``FaceDataError`` where that is not set."""
    folder = folder or os.environ.get(DATA_ENV)
    if not folder:
        raise FaceDataError(
            f"{DATA_ENV} is not set: it names the folder that `llava-face questions ... --out` wrote the questions to"
        )
    return Path(folder) / f"{task}.parquet"


def save_questions(path: Path, header: Header, questions: Iterable[Question]) -> Header:
    """Write the file, whole or not at all; returns the header with ``rows`` and ``digest`` filled in.

    Raises ``FaceDataError`` naming the first question that is not valid, and where there is none.
    """
    pa = pyarrow()
    listed = list(questions)
    if not listed:
        raise FaceDataError(f"{path}: {header.task}: not one question could be made", "empty")
    _check(path, listed)
    schema = _schema(pa, listed[0].groups)
    columns = {name: [getattr(q, name) for q in listed] for name in schema.names}
    columns["cluster"] = [q.cluster or q.image_id for q in listed]
    header.rows, header.digest = len(listed), _digest(columns, header.extra)
    table = pa.table(columns, schema=schema.with_metadata({_KEY: json.dumps(asdict(header)).encode()}))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        pa.parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    return header


def load_questions(path: Path) -> tuple[Header, Any]:
    """(header, pyarrow table). Raises ``FaceDataError`` for a file that is missing, damaged or not of this format."""
    pa = pyarrow()
    header = read_header(path)
    try:
        table = pa.parquet.read_table(path, page_checksum_verification=True)
        table.validate(full=True)
        groups = [f.name for f in table.schema.field("groups").type] if "groups" in table.column_names else []
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, MemoryError) as error:
        raise FaceDataError(f"{path}: damaged ({' '.join(str(error).split())})", "damaged") from error
    if not table.schema.remove_metadata().equals(_schema(pa, groups)):
        raise FaceDataError(f"{path}: its columns are not those of a question file", "format")
    if len(table) != header.rows or _digest(table.to_pydict(), header.extra) != header.digest:
        raise FaceDataError(f"{path}: rows and header do not belong together", "damaged")
    return header, table


def read_header(path: Path) -> Header:
    """The header alone. Raises ``FaceDataError`` as ``load_questions``."""
    pa = pyarrow()
    if not path.is_file():
        raise FaceDataError(f"{path}: no such question file; `llava-face questions` makes it", "missing")
    try:
        metadata = pa.parquet.read_schema(path).metadata or {}
        values = json.loads(metadata.get(_KEY, b"null"))
    except (OSError, pa.ArrowException, ValueError, KeyError, MemoryError) as error:
        raise FaceDataError(f"{path}: not a question file, or damaged ({error})", "damaged") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else None
        raise FaceDataError(f"{path}: question file of format {found!r}; this version reads format {FORMAT}", "format")
    try:
        return Header(**values)
    except TypeError as error:
        raise FaceDataError(f"{path}: the header does not fit: {error}", "format") from error


def _schema(pa: Any, groups: Iterable[str]) -> Any:
    texts = pa.list_(pa.string())
    fields = [
        ("question_id", pa.string()), ("image_id", pa.string()), ("cluster", pa.string()), ("images", texts),
        ("video", pa.string()), ("kind", pa.string()), ("question", pa.string()), ("options", texts),
        ("permutation", pa.list_(pa.int16())), ("answer", texts), ("topic", pa.string()), ("value", pa.string()),
        ("fold", pa.int16()),
    ]  # fmt: skip
    # An empty struct cannot be stored.
    columns = list(groups)
    return pa.schema(fields + ([("groups", pa.struct([(g, pa.string()) for g in columns]))] if columns else []))


def _digest(columns: Mapping[str, Sequence[Any]], extra: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(extra, sort_keys=True).encode())
    for name in sorted(columns):
        digest.update(json.dumps([name, *columns[name]], sort_keys=True).encode())
    return digest.hexdigest()


def _check(path: Path, questions: Sequence[Question]) -> None:
    seen: set[str] = set()
    groups = set(questions[0].groups)
    for q in questions:
        where = f"{path}: question {q.question_id!r}"
        if q.question_id in seen:
            raise FaceDataError(f"{where} occurs twice")
        seen.add(q.question_id)
        if set(q.groups) != groups:
            raise FaceDataError(f"{where}: groups {sorted(q.groups)}; those before it have {sorted(groups)}")
        if not q.images and not q.video:
            raise FaceDataError(f"{where}: no image and no video")
        if problem := _wrong(q):
            raise FaceDataError(f"{where}: {problem}")


def _wrong(q: Question) -> str | None:
    """What is wrong with kind, options and answer."""
    if q.kind not in KINDS:
        return f"kind {q.kind!r}; expected one of {', '.join(KINDS)}"
    if not q.question.strip():
        return "it asks nothing"
    if q.kind == "yes_no" and q.answer not in (("yes",), ("no",)):
        return f"answer {list(q.answer)}; expected yes or no"
    if q.kind == "choice":
        if not 2 <= len(set(q.options)) == len(q.options) <= len(LETTERS):
            return f"options {list(q.options)}; expected 2 to {len(LETTERS)} different ones"
        if len(q.answer) != 1 or q.answer[0] not in LETTERS[: len(q.options)] or not q.answer[0]:
            return f"answer {list(q.answer)}; expected one letter of {LETTERS[: len(q.options)]}"
        if sorted(q.permutation) != list(range(len(q.options))):
            return f"permutation {list(q.permutation)} is none of {len(q.options)} options"
    if q.kind == "labels" and not set(q.answer) <= set(q.options):
        return f"answer {list(q.answer)} is not among the options {list(q.options)}"
    if q.kind == "number":
        try:
            float(*q.answer)
        except (TypeError, ValueError):
            return f"answer {list(q.answer)}; expected one number"
    return None
