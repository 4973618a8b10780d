"""Our facer parser against facer's own one-by-one loop, on the same weights and images.

    FACE_TEST_DATA=... python scripts/benchmarks/parser_batch.py [--images N] [--width W] [--repeat R] [--out FILE.json]

facer's loop is what its README shows: one image at a time, ``face_detector``, ``face_parser``, argmax. Ours is
``build_parser(...).parse(images)``. Both run facer's RetinaFace with its real weights and, in place of FaRL's 650 MB
file, a random TorchScript of FaRL celebm's signature (448 in, 512 out, 19 classes) whose cost ``--width`` sets; its
FLOPs are printed (FaRL: 894 G a face). Three stages, each alternating facer, ours, facer, ours ... in one process:
detection alone; parsing alone, both given our detections; both together. Ratios are facer / ours of one round, by the
wall clock and by CPU time (the better figure on a machine that others use too); the median is given. In ``both`` on
images above 640 pixels the two look at different sizes (detectors/bounded.py), so their crops differ a little, to which
a random network's maps are very sensitive.

A stand-in that is lighter than FaRL makes what surrounds the network weigh more: the larger ``--width``, the nearer to
1 the ratio of parsing on a CPU, where a batch is no faster than its faces one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from llava_face_plugin.maps.vocabularies import TO_CANONICAL, by_image_side
from llava_face_plugin.parser_config import ParserConfig
from llava_face_plugin.parsing.build import build_parser
from llava_face_plugin.parsing.detectors.base import Detection
from llava_face_plugin.parsing.facer import FacerParser
from llava_face_plugin.parsing.weights import sha256_of

ROOT = Path(__file__).resolve().parents[2]
MODEL = "farl/celebm/448"
WARM_UP = 1


class StandIn(nn.Module):
    """FaRL celebm's signature around residual 3x3 convolutions at 1/8 of 448, of random weights."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 8, stride=8)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.head = nn.Conv2d(width, 19, 1, bias=False)
        self.grow = nn.Upsample(size=(512, 512), mode="bilinear")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.stem(x - 0.5)
        for block in self.blocks:
            y = y + torch.relu(block(y))
        logits = 20 * self.grow(self.head(y))
        return logits, logits.new_zeros(1)


@dataclass(frozen=True)
class Bench:
    """The two sides, and what they work on."""

    facer: ModuleType
    theirs: tuple[nn.Module, nn.Module]
    ours: FacerParser
    images: list[Image.Image]
    device: torch.device

    def facer_detect(self) -> list[dict[str, Tensor]]:
        with torch.inference_mode():
            return [self.theirs[0](self._tensor(image)) for image in self.images]

    def facer_parse(self, found: list[dict[str, Tensor]]) -> list[np.ndarray | None]:
        return [self._facer_map(image, dict(faces)) for image, faces in zip(self.images, found, strict=True)]

    def facer_both(self) -> list[np.ndarray | None]:
        with torch.inference_mode():
            return [self._facer_map(image, self.theirs[0](self._tensor(image))) for image in self.images]

    def _tensor(self, image: Image.Image) -> Tensor:
        return self.facer.hwc2bchw(torch.from_numpy(np.array(image))).to(self.device)

    def _facer_map(self, image: Image.Image, faces: dict[str, Tensor]) -> np.ndarray | None:
        """Argmax of the face with the largest box, in facer's ids. Only that one is parsed, as ours does."""
        if len(faces["rects"]) == 0:
            return None
        boxes = faces["rects"]
        main = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argmax()
        one = {name: value[main : main + 1] for name, value in faces.items()}
        logits = self.theirs[1](self._tensor(image), one)["seg"]["logits"]
        return logits.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()


class Given:
    """A detector that repeats what was found before."""

    digest = ""

    def __init__(self, found: list[Detection]) -> None:
        self.found = found

    def detect(self, images: Any) -> list[Detection]:
        return self.found


def alternating(facers: Callable[[], object], ours: Callable[[], object], repeat: int) -> dict[str, Any]:
    """Seconds of both sides, facer first in each round, by the wall clock and as this process's CPU time.

    The first ``WARM_UP`` rounds are dropped.
    """
    clocks = (time.perf_counter, time.process_time)
    times = np.zeros((WARM_UP + repeat, 2, len(clocks)))
    for round_ in times:
        for side, run in enumerate((facers, ours)):
            start = [clock() for clock in clocks]
            run()
            round_[side] = [clock() - begun for clock, begun in zip(clocks, start, strict=True)]
    times = times[WARM_UP:]
    found: dict[str, Any] = {"rounds": repeat}
    for n, clock in enumerate(("wall", "cpu")):
        a, b = times[:, 0, n], times[:, 1, n]
        low, ratio, high = np.quantile(a / b, [0.25, 0.5, 0.75])
        found[clock] = {
            "facer_s": float(np.median(a)), "facer_range_s": [float(a.min()), float(a.max())],
            "ours_s": float(np.median(b)), "ours_range_s": [float(b.min()), float(b.max())],
            "ratio": float(ratio), "ratio_quartiles": [float(low), float(high)],
        }  # fmt: skip
    return found


def agreement(theirs: list[np.ndarray | None], ours: list[np.ndarray | None]) -> dict[str, Any]:
    """How far facer's maps, remapped, and ours are the same."""
    table = np.array(TO_CANONICAL["celebm"], dtype=np.uint8)
    pairs = [(by_image_side(table[a]), b) for a, b in zip(theirs, ours, strict=True) if a is not None and b is not None]
    equal = [float((a == b).mean()) for a, b in pairs]
    one_only = sum((a is None) != (b is None) for a, b in zip(theirs, ours, strict=True))
    return {
        "images_with_a_face": len(pairs), "found_by_one_side_only": one_only,
        "maps_exactly_equal": sum(value == 1.0 for value in equal),
        "equal_pixels_min": min(equal), "equal_pixels_mean": float(np.mean(equal)),
    }  # fmt: skip


def measured(bench: Bench, repeat: int) -> dict[str, dict[str, Any]]:
    detector = bench.ours.detector
    found = detector.detect(bench.images)
    parsing = FacerParser(Given(found), bench.ours.config)
    as_facer = [_as_facer(one, bench.device) for one in found]
    stages = {
        "detection": (bench.facer_detect, lambda: detector.detect(bench.images)),
        "parsing": (lambda: bench.facer_parse(as_facer), lambda: parsing.parse(bench.images)),
        "both": (bench.facer_both, lambda: bench.ours.parse(bench.images)),
    }
    results = {}
    for name, (facers, ours) in stages.items():
        results[name] = alternating(facers, ours, repeat)
        print(f"{name}: facer / ours {results[name]['wall']['ratio']:.2f}", file=sys.stderr, flush=True)
    results["parsing"]["labels"] = agreement(
        bench.facer_parse(as_facer), [parsed.labels for parsed in parsing.parse(bench.images)]
    )
    results["both"]["labels"] = agreement(
        bench.facer_both(), [parsed.labels for parsed in bench.ours.parse(bench.images)]
    )
    return results


def _as_facer(found: Detection, device: torch.device) -> dict[str, Tensor]:
    assert found.points is not None
    return {
        "rects": torch.from_numpy(found.boxes).to(device), "points": torch.from_numpy(found.points).to(device),
        "scores": torch.from_numpy(found.scores).to(device),
        "image_ids": torch.zeros(len(found.boxes), dtype=torch.long, device=device),
    }  # fmt: skip


def build(arguments: argparse.Namespace, folder: Path) -> tuple[Bench, float]:
    """Both sides, and the stand-in's GFLOPs a face."""
    sys.path.insert(0, str(ROOT))  # the cure for PyPI's torchvision beside a CPU torch is the tests' own
    from torch.utils.flop_counter import FlopCounterMode

    from tests.parsing.standins import import_facer

    facer = import_facer()
    torch.manual_seed(0)
    net = StandIn(arguments.width, arguments.depth).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.rand(1, 3, 448, 448))
    path = folder / "standin.pt"
    torch.jit.trace(net, torch.rand(1, 3, 448, 448), check_trace=False).save(str(path))
    device = torch.device(arguments.device)
    detector = str(arguments.data / "detectors" / "RetinaFace_mobilenet025.pth")
    config = ParserConfig(
        type="facer", model=MODEL, path=str(path), sha256=sha256_of(path), detector_path=detector,
        device=arguments.device, batch_size=arguments.batch,
    )  # fmt: skip
    ours = build_parser(config)
    assert isinstance(ours, FacerParser)
    theirs = (
        facer.face_detector("retinaface/mobilenet", device, model_path=detector, threshold=config.min_score),
        facer.face_parser(MODEL, device, model_path=str(path)),
    )
    torch.backends.cudnn.benchmark = False  # as it was before facer's detector switched it on: the same for both
    return Bench(facer, theirs, ours, pictures(arguments), device), counter.get_total_flops() / 1e9


def pictures(arguments: argparse.Namespace) -> list[Image.Image]:
    """``--set samples``: photos of several sizes; ``celebamask_hq``: 512 x 512 faces."""
    folder = arguments.data / ("samples" if arguments.set == "samples" else "celebamask_hq/images")
    paths = sorted(path for path in folder.glob("*") if path.is_file())[: arguments.images]
    if not paths:
        raise SystemExit(f"{folder}: no images; set FACE_TEST_DATA")
    return [Image.open(path).convert("RGB") for path in paths]


def show(results: dict[str, Any]) -> None:
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    print(f"{results['images']} images of {results['set']}, {results['gflops_a_face']:.1f} GFLOP a face; {machine}")
    head = ("stage", "clock", "facer s", "range", "ours s", "range", "ratio", "quartiles")
    print("{:10} {:5} {:>8} {:>12} {:>8} {:>12} {:>6} {:>12}".format(*head))
    for name, stage in results["stages"].items():
        for clock in ("wall", "cpu"):
            r = stage[clock]
            ranges = ["{:.2f}-{:.2f}".format(*r[f"{side}_range_s"]) for side in ("facer", "ours")]
            quartiles = "{:.2f}-{:.2f}".format(*r["ratio_quartiles"])
            print(
                f"{name:10} {clock:5} {r['facer_s']:8.2f} {ranges[0]:>12} {r['ours_s']:8.2f} {ranges[1]:>12} "
                f"{r['ratio']:6.2f} {quartiles:>12}"
            )
        if "labels" in stage:
            print(f"{'':10} labels: {stage['labels']}")


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FACE_TEST_DATA", "unset")))
    parser.add_argument("--set", choices=("celebamask_hq", "samples"), default="celebamask_hq")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--width", type=int, default=128, help="channels of the stand-in")
    parser.add_argument("--depth", type=int, default=8, help="convolutions of the stand-in")
    parser.add_argument("--batch", type=int, help="faces a forward pass of ours (default: the parser's)")
    parser.add_argument("--repeat", type=int, default=5, help="rounds after the warm-up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    return parser.parse_args()


def main() -> None:
    arguments = parsed_arguments()
    warnings.simplefilter("ignore")  # deprecation notices of torch.jit and timm
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="parser_batch_") as folder:
        bench, gflops = build(arguments, Path(folder))
        stages = measured(bench, arguments.repeat)
    machine = {
        "device": torch.cuda.get_device_name() if bench.device.type == "cuda" else platform.processor() or "cpu",
        "cores": os.cpu_count(), "threads": arguments.threads, "load": [round(v, 1) for v in os.getloadavg()],
        "torch": torch.__version__, "batch": bench.ours.batch_size,
    }  # fmt: skip
    results = {
        "set": arguments.set, "images": len(bench.images), "gflops_a_face": gflops, "width": arguments.width,
        "depth": arguments.depth, "machine": machine, "stages": stages,
    }  # fmt: skip
    show(results)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
