"""What a stored map costs a training sample: finding, reading and checking it, bringing it into the image's geometry
and writing it into its channel, as a share of decoding and preprocessing the image itself, in one run.

    FACE_TEST_DATA=... python scripts/benchmarks/map_cost.py            # CelebAMask-HQ pairs and CelebA's size
    python scripts/benchmarks/map_cost.py --data DIR                    # images/ and masks/ of your own

Both do what LLaVA's dataset does to a sample (``image_aspect_ratio`` pad, CLIP at 336 px), the map right after its
image. The figure is the median over rounds of the ratio within a round, with its quartiles. Apart from it: what the
4th channel costs a sample in face mode, with a map or without (a copy of the pixels).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llava.mm_utils import expand2square
from PIL import Image
from transformers import CLIPImageProcessor

from llava_face_plugin.hosts.label_channel import join, put, square, through_processor
from llava_face_plugin.hosts.llava_v1_data import sample_map
from llava_face_plugin.maps.files import read_map, write_map
from llava_face_plugin.maps.lookup import FolderMaps

SIDE = 336
CASES: tuple[tuple[str, tuple[int, int] | None, int | None], ...] = (
    ("512x512 (as they are)", None, None),
    ("512x512, map --max-side 336", None, SIDE),
    ("640x480 (COCO's size)", (640, 480), None),
    ("640x480, map --max-side 336", (640, 480), SIDE),
    ("178x218 (CelebA's size)", (178, 218), None),
)
"""Name, size of image and map, and longest side of the map."""


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for n, (name, size, side) in enumerate(CASES):
            root = prepared(arguments.data, Path(folder) / str(n), arguments.n, size, side)
            results.append({"case": name} | measured(root, processor, arguments.rounds))
    print(f"{arguments.n} pairs of {arguments.data.name}, {arguments.rounds} rounds, 1 thread, {os.cpu_count()} cores")
    print(f"{'case':28} {'image ms':>9} {'map ms':>8} {'ratio':>7}   {'quartiles':14}  channel ms")
    for r in results:
        low, high = r["ratio_quartiles"]
        print(
            f"{r['case']:28} {r['image_ms']:9.2f} {r['map_ms']:8.3f} {r['ratio']:7.3f}   {low:.3f} to {high:.3f}  "
            f"{r['channel_ms']:10.3f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def prepared(data: Path, root: Path, n: int, size: tuple[int, int] | None, map_side: int | None) -> Path:
    """A folder of n images and maps, brought to ``size`` if given, the maps to ``map_side``."""
    pairs = sorted((data / "images").glob("*.jpg"))[:n]
    for image in pairs:
        picture, labels = (
            Image.open(image).convert("RGB"),
            Image.fromarray(read_map(data / "masks" / f"{image.stem}.png")),
        )
        (root / "images").mkdir(parents=True, exist_ok=True)
        if size is not None:
            picture, labels = picture.resize(size), labels.resize(size, Image.Resampling.NEAREST)
        if map_side is not None:
            scale = map_side / max(labels.size)
            labels = labels.resize(tuple(round(n * scale) for n in labels.size), Image.Resampling.NEAREST)
        picture.save(root / "images" / image.name, quality=90)
        write_map(root / "maps" / f"{image.name}.png", np.asarray(labels))
    return root


def measured(root: Path, processor: Any, rounds: int) -> dict[str, Any]:
    """Milliseconds an image and a map, and their ratio, over alternating rounds."""
    names = sorted(p.name for p in (root / "images").iterdir())
    pad = tuple(int(x * 255) for x in processor.image_mean)
    maps = FolderMaps(root / "maps", "celebamask-hq")

    def image(name: str) -> torch.Tensor:
        picture = expand2square(Image.open(root / "images" / name).convert("RGB"), pad)
        return processor.preprocess(picture, return_tensors="pt")["pixel_values"][0]

    def face_map(name: str, images: torch.Tensor) -> None:
        labels = sample_map({"image": name}, 0, root / "images", maps)
        assert labels is not None
        put(images, through_processor(square(labels), processor))

    times = np.zeros((rounds + 1, 3))
    for row in times:
        for name in names:  # a sample's map right after its image, as in a data loader
            start = time.perf_counter()
            pixels = image(name)
            decoded = time.perf_counter()
            images = join(pixels, None)
            joined = time.perf_counter()
            face_map(name, images)
            row += decoded - start, time.perf_counter() - joined, joined - decoded
    times = times[1:] * 1e3 / len(names)  # the first round warms the caches
    ratios = times[:, 1] / times[:, 0]
    return {
        "image_ms": float(np.median(times[:, 0])), "map_ms": float(np.median(times[:, 1])),
        "channel_ms": float(np.median(times[:, 2])),
        "ratio": float(np.median(ratios)), "ratio_quartiles": [float(q) for q in np.quantile(ratios, [0.25, 0.75])],
    }  # fmt: skip


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("FACE_TEST_DATA", "unset")) / "celebamask_hq"
    parser.add_argument("--data", type=Path, default=default, help="folder with images/NAME.jpg and masks/NAME.png")
    parser.add_argument("--n", type=int, default=100, help="pairs")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    if not (arguments.data / "images").is_dir():
        parser.error(f"{arguments.data}: no images/ there (set FACE_TEST_DATA or --data)")
    return arguments


if __name__ == "__main__":
    main()
