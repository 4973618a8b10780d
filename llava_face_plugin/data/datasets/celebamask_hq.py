"""CelebAMask-HQ (Lee et al., 2020): images, part masks, CelebA's attributes.

Two layouts are read. The official one: ``CelebA-HQ-img/``, ``CelebAMask-HQ-mask-anno/<0..14>/00000_skin.png``
(one binary mask a part), ``CelebAMask-HQ-attribute-anno.txt``, ``CelebA-HQ-to-CelebA-mapping.txt`` (splits
and identities, where CelebA's own files are there too; also attributes, where the attribute file is missing). And a
simple one: ``images/*.jpg`` with ``masks/*.png`` (palette PNG of canonical ids, same stem) and no attributes: then the
four attributes that a mask decides are derived from it and the others stay unknown.

The official layout as published in switchablenorms/CelebAMask-HQ; not checked on real files. The simple one is checked
on 600 real pairs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ...labels import CELEBA_ATTRIBUTES, FACE_PARTS
from ...maps.files import image_size, open_image, read_map, same_aspect, write_map
from .. import celeba_files as celeba
from ..files import existing_folder, source, within
from ..losses import Losses
from ..manifest import UNKNOWN, Manifest
from .base import DatasetInfo, ReadOptions

IMAGES, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
ATTRIBUTES, MAPPING = "CelebAMask-HQ-attribute-anno.txt", "CelebA-HQ-to-CelebA-mapping.txt"
FACES_A_FOLDER = 2000
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

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


def read(root: Path, options: ReadOptions) -> Manifest:
    """The faces that have an image and a mask, or without looking for images all rows of the attribute file.

    In the official layout the part masks are merged into ``options.derived`` (512 x 512 PNG; maps that are there
    already are kept). Without CelebA's partition every image counts as train. Raises ``FaceDataError``.
    """
    losses, notes = Losses(), list[str]()
    official = (root / MASKS).is_dir() or (root / IMAGES).is_dir() or not options.look_for_images
    if official:
        faces, sources = _official(root, options, losses)
    elif (root / "images").is_dir() and (root / "masks").is_dir():
        faces, sources = _simple(root, options, losses), []
        notes.append(
            f"no attribute file: {', '.join(DERIVED)} were derived from the masks (present from "
            f"{100 * MIN_SHARE:.4f} % of the pixels on), all other attributes are unknown"
        )
    else:
        raise FaceDataError(f"{root}: neither {IMAGES}/ and {MASKS}/ nor images/ and masks/ are here", "missing")
    if not faces:
        raise FaceDataError(f"{root}: no image with a mask is here", "missing")
    split, identity = np.zeros(len(faces), dtype=np.int8), None
    if official:
        split, identity, more = _splits(root, options, faces, losses, notes)
        sources += more
    seen = options.look_for_images
    mapped = seen and (not official or options.derived is not None)
    return Manifest(
        "celebamask_hq", np.array([within(f.image, root) if seen else f.image.as_posix() for f in faces]), split,
        CELEBA_ATTRIBUTES, np.stack([f.attributes for f in faces]), identity=identity,
        present=np.ones(len(faces), dtype=bool) if seen else None,
        maps=np.array([within(f.face_map, root) for f in faces]) if mapped else None, groups=INFO.groups,
        sources=sources, skipped=losses.skipped, problems=losses.problems, notes=notes,
    )  # fmt: skip


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


def _official(root: Path, options: ReadOptions, losses: Losses) -> tuple[list[_Face], list[dict[str, object]]]:
    path, names, values = _attributes(root, options, losses)
    sources = [source(path, len(names))]
    if not options.look_for_images:
        return [_Face(Path(n).stem, Path(IMAGES, n), Path(), v) for n, v in zip(names, values, strict=True)], sources
    images = existing_folder(options.images or root / IMAGES, "CelebAMask-HQ")
    masks = existing_folder(root / MASKS, "CelebAMask-HQ")
    with_mask = {name.split("_")[0] for folder in masks.iterdir() if folder.is_dir() for name in os.listdir(folder)}
    there = set(os.listdir(images))
    maps = options.derived or Path()
    jobs: list[_Face] = []
    for name, row in zip(names, values, strict=True):
        stem = Path(name).stem
        if name not in there:
            losses.add("no image file")
        elif f"{int(stem):05d}" not in with_mask:
            losses.add("no part mask")
        else:
            jobs.append(_Face(stem, images / name, maps / f"{stem}.png", row))

    def merge(face: _Face) -> None:
        if not face.face_map.is_file():
            labels = merge_parts(masks, int(face.id))
            _check_shape(face.image, labels, face.face_map)
            write_map(face.face_map, labels)

    if options.derived is not None:
        _each(merge, jobs, "merging masks", options)
    return jobs, sources


def _attributes(root: Path, options: ReadOptions, losses: Losses) -> tuple[Path, list[str], np.ndarray]:
    """File, N names like ``0.jpg``, (N, 40) int8: from the set's own file, or from CelebA's through the mapping."""
    path = celeba.find_file(root, ATTRIBUTES, options.labels)
    original = celeba.find_file(options.celeba_root or root, celeba.ATTRIBUTES)
    mapping_path = celeba.find_file(root, MAPPING)
    if path is None and original is not None and mapping_path is not None:
        table, mapping = celeba.read_attributes(original, losses), celeba.read_mapping(mapping_path, losses)
        row_of = {name: i for i, name in enumerate(table.names)}
        for index, name in mapping.items():
            if name not in row_of:
                raise FaceDataError(
                    f"{mapping_path}: image {index} was made from {name}, which {original} does not list"
                )
        rows, names = [row_of[name] for name in mapping.values()], [f"{i}.jpg" for i in mapping]
        values = table.values[rows]
    else:
        path = celeba.need_file(root, ATTRIBUTES, options.labels)
        table = celeba.read_attributes(path, losses, ATTRIBUTES)
        names, values = table.names, table.values
        for name, line in zip(names, table.lines, strict=True):
            if not (Path(name).stem.isdecimal() and Path(name).stem.isascii() and "/" not in name):
                raise FaceDataError(f"{path}, line {line}: expected a name like 0.jpg, found {name}")
    return path or mapping_path or root, names, values[:, [table.attributes.index(a) for a in CELEBA_ATTRIBUTES]]


def _simple(root: Path, options: ReadOptions, losses: Losses) -> list[_Face]:
    masks = {p.stem: p for p in (root / "masks").glob("*.png")}
    images = {p.stem: p for p in sorted((root / "images").iterdir()) if p.suffix.lower() in SUFFIXES}
    losses.add("no mask", n=len(images.keys() - masks.keys()))
    losses.add("no image file", n=len(masks.keys() - images.keys()))
    unknown = np.full(len(CELEBA_ATTRIBUTES), UNKNOWN, dtype=np.int8)
    faces = [_Face(s, images[s], masks[s], unknown) for s in sorted(images.keys() & masks.keys())]

    def look(face: _Face) -> None:
        labels = read_map(face.face_map, sample=face.id)
        _check_shape(face.image, labels, face.face_map)
        face.attributes = derive(labels)

    _each(look, faces, "reading masks", options)
    return faces


def _splits(
    root: Path, options: ReadOptions, faces: Sequence[_Face], losses: Losses, notes: list[str]
) -> tuple[np.ndarray, np.ndarray | None, list[dict[str, object]]]:
    """(N,) split, (N,) identity or None, and the files they are from."""
    home = options.celeba_root or root
    mapping_path = celeba.find_file(root, MAPPING)
    partition_path = celeba.find_file(home, celeba.PARTITION, options.partition)
    if mapping_path is None or partition_path is None:
        missing = MAPPING if mapping_path is None else celeba.PARTITION
        notes.append(f"{missing} is not there: every image counts as train")
        return np.zeros(len(faces), dtype=np.int8), None, []
    mapping = celeba.read_mapping(mapping_path, losses)
    originals = [mapping.get(int(face.id), "") for face in faces]
    if "" in originals:
        raise FaceDataError(f"{mapping_path}: no row for image {faces[originals.index('')].id}")
    split = celeba.lookup(celeba.read_partition(partition_path, losses), originals)
    _complete(split, partition_path, "partition", originals, faces)
    sources = [source(mapping_path, len(mapping)), source(partition_path, len(split))]
    identity_path = celeba.find_file(home, celeba.IDENTITIES, options.identities)
    if identity_path is None:
        return split.astype(np.int8), None, sources
    identity = celeba.lookup(celeba.read_identities(identity_path, losses), originals)
    _complete(identity, identity_path, "identity", originals, faces)
    return split.astype(np.int8), identity, [*sources, source(identity_path, len(identity))]


def _complete(values: np.ndarray, path: Path, what: str, originals: list[str], faces: Sequence[_Face]) -> None:
    if (values < 0).any():
        at = int(np.argmax(values < 0))
        raise FaceDataError(f"{path}: no {what} for {originals[at]} (image {faces[at].id})", "missing")


def _check_shape(image: Path, labels: np.ndarray, face_map: Path) -> None:
    size = image_size(image)
    if not same_aspect(size, (labels.shape[1], labels.shape[0])):
        raise FaceDataError(
            f"face map {face_map}: {labels.shape[1]}x{labels.shape[0]} is not the shape of "
            f"{image} ({size[0]}x{size[1]})"
        )


def _each(work: Callable[[_Face], None], faces: Sequence[_Face], what: str, options: ReadOptions) -> None:
    with ThreadPoolExecutor(max_workers=max(1, options.workers)) as pool:
        for i, _ in enumerate(pool.map(work, faces)):
            if options.progress is not None:
                options.progress(what, i + 1, len(faces))


INFO = DatasetInfo(
    name="celebamask_hq",
    title="CelebAMask-HQ",
    citation="Lee, Liu, Wu, Luo: MaskGAN: Towards Diverse and Interactive Facial Image Manipulation. CVPR 2020",
    licence="non-commercial research purposes only, no further copies (the set's README)",
    layout="""official: CelebA-HQ-img/0.jpg, CelebAMask-HQ-mask-anno/0/00000_skin.png, CelebAMask-HQ-attribute-anno.txt,
          CelebA-HQ-to-CelebA-mapping.txt (optional; with CelebA's partition and identities: official splits)
simple:   images/NAME.jpg, masks/NAME.png (palette PNG of ids); no attributes but what the masks show""",
    read=read,
    own_maps=True,
    rules="celeba",
    groups=("Male", "Young"),
)
