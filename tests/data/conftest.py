"""Small stand-ins for the official files, written as the originals are (CRLF, padded columns)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava_face_plugin.labels import CELEBA_ATTRIBUTES

Write = Callable[..., Path]


def attribute_text(names: list[str], values: np.ndarray) -> str:
    rows = [f"{n} " + " ".join(f"{v:2d}" for v in row) for n, row in zip(names, values, strict=True)]
    return "\r\n".join([str(len(names)), " ".join(CELEBA_ATTRIBUTES) + " ", *rows]) + "\r\n"


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """24 rows: 16 train, 4 val, 4 test; images of 12 train rows only; two images a person."""
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, 25)]
    values = np.where(np.random.default_rng(0).random((24, 40)) < 0.4, 1, -1)
    (root / "list_attr_celeba.txt").write_bytes(attribute_text(names, values).encode())
    partition = [0] * 16 + [1] * 4 + [2] * 4
    (root / "list_eval_partition.txt").write_bytes(
        "".join(f"{n} {p}\r\n" for n, p in zip(names, partition, strict=True)).encode()
    )
    (root / "identity_CelebA.txt").write_text("".join(f"{n} {i // 2}\n" for i, n in enumerate(names)))
    for name in names[:12]:
        Image.new("RGB", (18, 22), (int(name[3:6]) * 9, 90, 30)).save(root / "img_align_celeba" / name)
    return root


@pytest.fixture
def hq(tmp_path: Path) -> Path:
    """Three HQ faces in the official layout: 64-pixel images, 32-pixel part masks."""
    root = tmp_path / "hq"
    (root / "CelebA-HQ-img").mkdir(parents=True)
    folder = root / "CelebAMask-HQ-mask-anno" / "0"
    folder.mkdir(parents=True)
    values = np.where(np.random.default_rng(1).random((3, 40)) < 0.5, 1, -1)
    text = attribute_text([f"{i}.jpg" for i in range(3)], values)
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text(text)
    for i in range(3):
        Image.new("RGB", (64, 64), (50 * i, 20, 30)).save(root / "CelebA-HQ-img" / f"{i}.jpg")
        for part, box in {"skin": (4, 4, 28, 28), "hair": (4, 0, 28, 10), "l_eye": (18, 12, 22, 14)}.items():
            mask = Image.new("RGB", (32, 32))
            mask.paste((255, 255, 255), box)
            mask.save(folder / f"{i:05d}_{part}.png")
    return root
