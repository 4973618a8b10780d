"""What a stored map costs a training sample, as a share of decoding and preprocessing its image, in one run.

*read*: finding the map in its store by the image's name, decoding and checking it. *fit*: the image's shape from its
header, the image's geometry, writing the map into its channel. *channel*: what the 4th channel costs in face mode, with
a map or without: a copy of the pixels.

    FACE_TEST_DATA=... python scripts/benchmarks/map_cost.py            # CelebAMask-HQ pairs and CelebA's size
    python scripts/benchmarks/map_cost.py --data DIR                    # images/ and masks/ of your own

The image is treated as LLaVA's dataset does (``image_aspect_ratio`` pad, CLIP at 336 px), the map right after it.
Ratios are medians over rounds of the ratio within a round, with quartiles.
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
from llava_face_plugin.maps.files import image_size, read_map, same_aspect, write_map
from llava_face_plugin.maps.lookup import open_maps
from llava_face_plugin.parsing.precomputed import PrecomputedParser
from llava_face_plugin.segment.run import Options, segment

SIDE = 336
Case = tuple[str, tuple[int, int] | None, Options]
CASES: tuple[Case, ...] = (
    ("512x512", None, Options()),
    ("512x512, --max-side 336", None, Options(max_side=SIDE)),
    ("512x512, 336, parquet", None, Options(max_side=SIDE, format="parquet")),
    ("640x480 (COCO's)", (640, 480), Options()),
    ("640x480, --max-side 336", (640, 480), Options(max_side=SIDE)),
    ("178x218 (CelebA's)", (178, 218), Options()),
)
"""Name, size of image and map (None: as they are), and how the store is made."""


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    results = []
    with tempfile.TemporaryDirectory(prefix="map_cost_") as folder:
        for n, (name, size, options) in enumerate(CASES):
            root = prepared(arguments.data, Path(folder) / str(n), arguments.n, size, options)
            results.append({"case": name} | measured(root, processor, arguments.rounds))
    print(f"{arguments.n} pairs of {arguments.data.name}, {arguments.rounds} rounds, 1 thread, {os.cpu_count()} cores")
    print(f"{'case':24}  image ms  read ms   fit ms  read/image             read and fit/image     channel ms")
    for r in results:
        read, whole = (f"{m:.3f} ({low:.3f} to {high:.3f})" for m, low, high in (r["read"], r["read_and_fit"]))
        print(
            f"{r['case']:24} {r['image_ms']:9.2f} {r['read_ms']:8.3f} {r['fit_ms']:8.3f}  {read}  {whole} "
            f"{r['channel_ms']:10.3f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def prepared(data: Path, root: Path, n: int, size: tuple[int, int] | None, options: Options) -> Path:
    """A folder of n images, brought to ``size`` if given, and a map store of their own masks."""
    for path in sorted((data / "images").glob("*.jpg"))[:n]:
        picture, labels = (
            Image.open(path).convert("RGB"),
            Image.fromarray(read_map(data / "masks" / f"{path.stem}.png")),
        )
        if size is not None:
            picture, labels = picture.resize(size), labels.resize(size, Image.Resampling.NEAREST)
        (root / "images").mkdir(parents=True, exist_ok=True)
        picture.save(root / "images" / path.name, quality=90)
        write_map(root / "masks" / f"{path.stem}.png", np.asarray(labels))
    segment(root / "images", root / "store", lambda: PrecomputedParser(root / "masks"), options)
    return root


def measured(root: Path, processor: Any, rounds: int) -> dict[str, Any]:
    """Milliseconds an image and a map, and their ratio, over alternating rounds."""
    names = sorted(p.name for p in (root / "images").iterdir())
    pad = tuple(int(x * 255) for x in processor.image_mean)
    maps = open_maps(root / "store")

    def image(name: str) -> torch.Tensor:
        picture = expand2square(Image.open(root / "images" / name).convert("RGB"), pad)
        return processor.preprocess(picture, return_tensors="pt")["pixel_values"][0]

    def fit(name: str, labels: np.ndarray, images: torch.Tensor) -> None:
        assert same_aspect(image_size(root / "images" / name), labels.shape[::-1])
        put(images, through_processor(square(labels), processor))

    times = np.zeros((rounds + 1, 4))
    for row in times:
        for name in names:  # a sample's map right after its image, as in a data loader
            clock = [time.perf_counter()]
            pixels = image(name)
            clock.append(time.perf_counter())
            labels = maps.by_name(name)
            clock.append(time.perf_counter())
            assert labels is not None
            images = join(pixels, None)
            clock.append(time.perf_counter())
            fit(name, labels, images)
            clock.append(time.perf_counter())
            row += np.diff(clock)
    times = times[1:] * 1e3 / len(names)  # the first round warms the caches
    image_ms, read_ms, channel_ms, fit_ms = (float(v) for v in np.median(times, axis=0))
    read, whole = times[:, 1] / times[:, 0], (times[:, 1] + times[:, 3]) / times[:, 0]
    return {
        "image_ms": image_ms, "read_ms": read_ms, "fit_ms": fit_ms, "channel_ms": channel_ms,
        "read": [float(q) for q in np.quantile(read, [0.5, 0.25, 0.75])],
        "read_and_fit": [float(q) for q in np.quantile(whole, [0.5, 0.25, 0.75])],
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
