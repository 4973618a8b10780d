"""CelebAMask-HQ (Lee et al., 2020): the user's own copy -> conversations, merged maps, questions, knowledge.

Two layouts are read. The official one: ``CelebA-HQ-img/``, ``CelebAMask-HQ-mask-anno/<0..14>/00000_skin.png``
(one binary mask a part), ``CelebAMask-HQ-attribute-anno.txt``, ``CelebA-HQ-to-CelebA-mapping.txt`` (splits
and identities, where CelebA's own files are there too). And a simple one: ``images/*.jpg`` with
``masks/*.png`` (palette PNG of canonical ids, same stem) and no attributes: then the four attributes that a
mask decides are derived from it and the others stay unknown. Images are never copied.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FaceDataError
from ..labels import CELEBA_ATTRIBUTES, FACE_PARTS
from ..maps.files import image_size, open_image, read_map, same_aspect, write_map
from .celeba_files import find_file, need_file, read_attributes, read_identities, read_mapping, read_partition
from .conversations import Sample
from .prepared import (
    Prepared,
    Progress,
    attributes_of,
    existing_folder,
    within,
    write_index,
    write_knowledge,
)  # fmt: skip
from .splits import SPLITS, SplitOptions, write_splits

IMAGES, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
ATTRIBUTES, MAPPING = "CelebAMask-HQ-attribute-anno.txt", "CelebA-HQ-to-CelebA-mapping.txt"
FACES_A_FOLDER = 2000

DERIVED: dict[str, str] = {
    "Eyeglasses": "eye_g", "Wearing_Hat": "hat", "Wearing_Earrings": "ear_r", "Wearing_Necklace": "neck_l",
}  # fmt: skip
"""The attributes that a mask decides, and the part that decides them."""

MIN_SHARE = 20 / 512**2
"""Least share of the map for a part to count as present (our default: 20 pixels at 512 x 512, so that stray
pixels do not count: in one public part of the set, a few necklaces are 1 to 10 pixels)."""


@dataclass
class _Face:
    id: str
    image: Path
    face_map: Path
    attributes: np.ndarray  # (40,) int8


def prepare(
    root: str | Path,
    out: str | Path,
    *,
    split: str = "train",
    limit: int | None = None,
    val_limit: int | None = None,
    holdout: float | None = None,
    k: int = 4,
    val_k: int | None = None,
    seed: int = 0,
    text_only: int = 0,
    knowledge: bool = True,
    rules: str | None = None,
    celeba_root: str | Path | None = None,
    workers: int = 4,
    progress: Progress | None = None,
) -> Prepared:
    """Write ``<split>.json``, ``val_questions.jsonl``, ``index.json`` and the knowledge file into ``out``.

    In the official layout the part masks are merged into ``out/maps/*.png`` (512 x 512; maps that are there
    already are kept). ``celeba_root`` is where CelebA's ``list_eval_partition.txt`` and
    ``identity_CelebA.txt`` are (default: ``root``); without a partition every image counts as train. For the
    other arguments see ``splits.SplitOptions``. Raises ``FaceDataError``.
    """
    root, out = existing_folder(Path(root), "CelebAMask-HQ"), Path(out)
    options = SplitOptions(split, limit, val_limit, holdout, k, val_k, seed, text_only)
    prepared = Prepared(out=out, vocabulary=CELEBA_ATTRIBUTES, labels={}, image_folder=root)
    groups: np.ndarray | None = None
    if (root / MASKS).is_dir() or (root / IMAGES).is_dir():
        faces = _official(root, out, prepared, workers, progress)
        split_of, groups = _splits(root, Path(celeba_root or root), faces, prepared)
    elif (root / "images").is_dir() and (root / "masks").is_dir():
        faces = _simple(root, prepared, workers, progress)
        split_of = np.zeros(len(faces), dtype=np.int64)
    else:
        raise FaceDataError(f"{root}: neither {IMAGES}/ and {MASKS}/ nor images/ and masks/ are here")
    if not faces:
        raise FaceDataError(f"{root}: no image with a mask is here")
    labels = np.stack([f.attributes for f in faces])
    prepared.labels = {name: labels[split_of == i] for i, name in enumerate(SPLITS)}

    def sample_at(i: int) -> Sample:
        face = faces[i]
        attributes = attributes_of(face.attributes, CELEBA_ATTRIBUTES)
        return Sample(face.id, within(face.image, root), attributes, within(face.face_map, root))

    train, val = write_splits(prepared, split_of, groups, sample_at, options)
    if split == "train":  # nothing is learned from the labels of what was held out
        learned = split_of == 0
        learned[val] = False
        prepared.labels["train"] = labels[learned]
    samples = [sample_at(int(i)) for i in np.union1d(train, val)]
    if os.path.isabs(samples[0].face_map or ""):
        prepared.notes.append(f"{out} is not below {root}: the map paths in the JSON are absolute")
    write_index(prepared, samples, progress)
    if knowledge:
        write_knowledge(prepared, "celebamask_hq", rules=rules, source=find_file(root, ATTRIBUTES))
    return prepared


def merge_parts(folder: Path, index: int) -> np.ndarray:
    """The (H, W) uint8 id map of HQ image ``index``, from its binary part masks.

    Later parts cover earlier ones in the order of ``FACE_PARTS``, as in MaskGAN's ``g_mask.py``. A part
    without a file is absent. Raises ``FaceDataError`` if there is no file at all, or masks differ in size.
    """
    labels: np.ndarray | None = None
    stem = folder / str(index // FACES_A_FOLDER) / f"{index:05d}"
    for part, name in enumerate(FACE_PARTS):
        path = stem.with_name(f"{stem.name}_{name}.png")
        if part == 0 or not path.is_file():
            continue
        present = np.asarray(open_image(path, sample=str(index)).convert("L")) > 0
        if labels is None:
            labels = np.zeros(present.shape, dtype=np.uint8)
        if present.shape != labels.shape:
            raise FaceDataError(
                f"{path}: {present.shape[1]}x{present.shape[0]}, but the other parts of image {index} are "
                f"{labels.shape[1]}x{labels.shape[0]}"
            )
        labels[present] = part
    if labels is None:
        raise FaceDataError(f"{stem}_*.png: no part mask of image {index}")
    return labels


def derive(labels: np.ndarray) -> np.ndarray:
    """(40,) int8: the attributes of ``DERIVED`` as 0 or 1, all others -1, from an (H, W) id map."""
    share = np.bincount(labels.reshape(-1), minlength=256) / labels.size
    row = np.full(len(CELEBA_ATTRIBUTES), -1, dtype=np.int8)
    for attribute, part in DERIVED.items():
        row[CELEBA_ATTRIBUTES.index(attribute)] = share[FACE_PARTS.index(part)] >= MIN_SHARE
    return row


def _official(root: Path, out: Path, prepared: Prepared, workers: int, progress: Progress | None) -> list[_Face]:
    images, masks = (
        existing_folder(root / IMAGES, "CelebAMask-HQ"),
        existing_folder(root / MASKS, "CelebAMask-HQ"),
    )
    table = read_attributes(need_file(root, ATTRIBUTES))
    columns = [table.attributes.index(a) for a in CELEBA_ATTRIBUTES]
    with_mask = {name.split("_")[0] for folder in masks.iterdir() if folder.is_dir() for name in os.listdir(folder)}
    there = set(os.listdir(images))
    jobs: list[_Face] = []
    for row, name in enumerate(table.names):
        stem = Path(name).stem
        if not stem.isdigit():
            raise FaceDataError(
                f"{table.path}, line {table.first_line + row}: expected a name like 0.jpg, found {name}"
            )
        if name not in there:
            prepared.skip("no image file")
        elif f"{int(stem):05d}" not in with_mask:
            prepared.skip("no part mask")
        else:
            jobs.append(_Face(stem, images / name, out / "maps" / f"{stem}.png", table.values[row, columns]))

    def merge(face: _Face) -> None:
        if not face.face_map.is_file():
            labels = merge_parts(masks, int(face.id))
            _check_shape(face.image, labels, face.face_map)
            write_map(face.face_map, labels)

    _each(merge, jobs, "merging masks", workers, progress)
    prepared.files["maps"] = out / "maps"
    return jobs


def _simple(root: Path, prepared: Prepared, workers: int, progress: Progress | None) -> list[_Face]:
    masks = {p.stem: p for p in (root / "masks").glob("*.png")}
    suffixes = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
    images = {p.stem: p for p in sorted((root / "images").iterdir()) if p.suffix.lower() in suffixes}
    prepared.skip("no mask", len(images.keys() - masks.keys()))
    prepared.skip("no image file", len(masks.keys() - images.keys()))
    unknown = np.full(len(CELEBA_ATTRIBUTES), -1, dtype=np.int8)
    faces = [_Face(s, images[s], masks[s], unknown) for s in sorted(images.keys() & masks.keys())]

    def look(face: _Face) -> None:
        labels = read_map(face.face_map, sample=face.id)
        _check_shape(face.image, labels, face.face_map)
        face.attributes = derive(labels)

    _each(look, faces, "reading masks", workers, progress)
    prepared.notes.append(
        f"no attribute file: {', '.join(DERIVED)} were derived from the masks (present from "
        f"{100 * MIN_SHARE:.4f} % of the pixels on), all other attributes are unknown"
    )
    return faces


def _splits(
    root: Path, celeba_root: Path, faces: Sequence[_Face], prepared: Prepared
) -> tuple[np.ndarray, np.ndarray | None]:
    everything_is_train = np.zeros(len(faces), dtype=np.int64)
    mapping_path, partition_path = find_file(root, MAPPING), find_file(celeba_root, "list_eval_partition.txt")
    if mapping_path is None or partition_path is None:
        missing = MAPPING if mapping_path is None else "list_eval_partition.txt"
        prepared.notes.append(f"{missing} is not there: every image counts as train")
        return everything_is_train, None
    mapping, partition = read_mapping(mapping_path), read_partition(partition_path)
    originals = []
    for face in faces:
        original = mapping.get(int(face.id))
        if original is None:
            raise FaceDataError(f"{mapping_path}: no row for image {face.id}")
        if original not in partition:
            raise FaceDataError(f"{partition_path}: no partition for {original} (image {face.id})")
        originals.append(original)
    split_of = np.array([partition[o] for o in originals], dtype=np.int64)
    identity_path = find_file(celeba_root, "identity_CelebA.txt")
    if identity_path is None:
        return split_of, None
    identities = read_identities(identity_path)
    unknown = next((o for o in originals if o not in identities), None)
    if unknown is not None:
        raise FaceDataError(f"{identity_path}: no identity for {unknown}")
    return split_of, np.array([identities[o] for o in originals])


def _check_shape(image: Path, labels: np.ndarray, face_map: Path) -> None:
    size = image_size(image)
    if not same_aspect(size, (labels.shape[1], labels.shape[0])):
        raise FaceDataError(
            f"face map {face_map}: {labels.shape[1]}x{labels.shape[0]} is not the shape of "
            f"{image} ({size[0]}x{size[1]})"
        )


def _each(
    work: Callable[[_Face], None], faces: Sequence[_Face], what: str, workers: int, progress: Progress | None
) -> None:
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for i, _ in enumerate(pool.map(work, faces)):
            if progress is not None:
                progress(what, i + 1, len(faces))
