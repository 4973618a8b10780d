"""A tiny face model of transformers, data in a fixed order, and a server for ranks; made once."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
pytest.importorskip("deepspeed")

_installed = tuple(int(n) for n in importlib.metadata.version("transformers").split(".")[:2])
if not (4, 55) <= _installed < (6, 0):
    pytest.skip("transformers' own Llava classes: 4.55 and newer, below 6", allow_module_level=True)

from .ranks import Ranks  # noqa: E402
from .runs import Runs, Trained  # noqa: E402

REPO = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The matrix beyond what CI has time for runs only where it is asked for: ``-m scale``."""
    if "scale" not in config.option.markexpr:
        left = [item for item in items if item.get_closest_marker("scale")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scale")


@pytest.fixture(scope="session")
def ranks(root: Path) -> Iterator[Ranks]:
    server = Ranks(root)
    yield server
    server.close()


@pytest.fixture(scope="session")
def start(root: Path) -> Path:
    return start_of(root, "part-embedding", "gated_add")


def start_of(root: Path, encoder: str, fusion: str) -> Path:
    """Face mode with the gates open, as after some training: every face parameter has a gradient in the first step.

    Names as in ``tests.core.standin``. What it was made from stays beside it, as ``switched-on``: no branch yet.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    import llava_face_plugin.hosts.hf  # noqa: F401
    from llava_face_plugin.switch import enable
    from tests.core.standin import FUSION_BLOCKS, encoder_blocks

    plain = root / "plain"
    if not plain.exists():
        runpy.run_path(str(REPO / "scripts" / "recipes" / "tiny_hf.py"))["build"](plain)
    folder = root / f"{encoder}+{fusion}".replace("/", "-")
    joined = dict(FUSION_BLOCKS[fusion])
    if joined["type"] == "moe":
        joined["experts"] = 8  # more than the patches of a blank image choose
    settings = {**encoder_blocks(encoder, width=16), "fusion": joined, "knowledge": {"hidden": 16}}
    enable(plain, preset="light", knowledge="made", settings=settings, out=folder / "switched-on")
    model = AutoModelForImageTextToText.from_pretrained(folder / "switched-on")
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "multi_modal_projector.face." in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=random))
                if re.search(r"norm\w*\.weight$", name):  # else what goes through several is too small for a gradient
                    parameter.add_(1.0)
    model.save_pretrained(folder / "start")
    AutoProcessor.from_pretrained(folder / "switched-on").save_pretrained(folder / "start")
    return folder / "start"


@pytest.fixture(scope="session")
def faces(root: Path) -> Path:
    """train.json: batches of two for two ranks in turn, four steps.

    Rank 1 sees no map and no labels in the first two steps, rank 0 no image in the third. Every sample has answers of
    equal length, so that parts of a batch weigh the same.
    """
    from llava_face_plugin.data.made import make

    make(root / "faces", 16, 1, seed=1, k=2)
    samples = json.loads((root / "faces" / "train.json").read_text())
    for index in (2, 3, 6, 7):
        del samples[index]["face_map"], samples[index]["face_attributes"]
    for index in (8, 9):
        for key in ("image", "face_map", "face_attributes"):
            del samples[index][key]
        samples[index]["conversations"][0]["value"] = "Is this a text? Answer yes or no."
    (root / "faces" / "train.json").write_text(json.dumps(samples))
    return root / "faces"


@pytest.fixture(scope="session")
def probe(root: Path, start: Path, faces: Path) -> Path:
    """A batch to compare logits on: two faces with maps, and the two samples without an image."""
    from transformers import AutoProcessor

    from . import worker

    processor = AutoProcessor.from_pretrained(start)
    data = worker.train_hf.Faces(str(faces / "train.json"), str(faces), processor)
    batch = worker.train_hf.Collator(processor, 20)([data[0], data[1], data[8]])
    torch.save({k: v for k, v in batch.items() if k not in ("labels", "face_attributes")}, root / "probe.pt")
    return root / "probe.pt"


@pytest.fixture(scope="session")
def runs(ranks: Ranks, root: Path, start: Path, faces: Path, probe: Path) -> Runs:
    return Runs(ranks, root, start, faces, probe)


@pytest.fixture(scope="session")
def runs_of(ranks: Ranks, root: Path, faces: Path, probe: Path) -> Callable[[str, str], Runs]:
    """Call it with an encoder and a fusion for their runs."""

    @functools.cache
    def made(encoder: str, fusion: str) -> Runs:
        start = start_of(root, encoder, fusion)
        return Runs(ranks, start.parent, start, faces, probe)

    return made


@pytest.fixture(scope="session")
def one(runs: Runs) -> Trained:
    """One process over the same batches, in the same order: those of two ranks are two micro-batches."""
    return runs("ddp", "one", world=1, gradient_accumulation_steps=2)
