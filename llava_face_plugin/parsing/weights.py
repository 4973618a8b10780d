"""Weight files: what they should be, and that they are. Nothing is downloaded.

TorchScript is code, and ``torch.jit.load`` runs it. So such a file is loaded only if its SHA-256 is recorded below or
given by the user. State dicts are read with ``weights_only=True``; their hash is checked where one is known.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import FaceDataError

BLOCK = 1 << 20


class Recorded(NamedTuple):
    """What is known of a published file."""

    sha256: str
    url: str


_FACER = "https://github.com/FacePerceiver/facer/releases/download/models-v1/"
_RETINAFACE = "https://github.com/elliottzheng/face-detection/releases/download/0.0.1/"

RECORDED: dict[str, Recorded] = {
    # Recorded alike by two independent public projects.
    "face_parsing.farl.celebm.main_ema_181500_jit.pt": Recorded(
        "bbc1f0e9f68c80eb83a0b23f33850d1e10f2ec1eda96884112d111c2c1f15c79",
        _FACER + "face_parsing.farl.celebm.main_ema_181500_jit.pt",
    ),
    # Recorded by one public project, whose values for celebm and mobilenet agree with the others'.
    "face_parsing.farl.lapa.main_ema_136500_jit191.pt": Recorded(
        "f5a874906795ef89fadd7cf3b5b218ed8550fa9dbb383b7c0f95726c3a352914",
        _FACER + "face_parsing.farl.lapa.main_ema_136500_jit191.pt",
    ),
    # The file was hashed here, and two public projects record the same.
    "mobilenet0.25_Final.pth": Recorded(
        "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220", _RETINAFACE + "mobilenet0.25_Final.pth"
    ),
    # From the LFS pointer of hhj1897/face_detection; presumed to be the file of facer's release.
    "Resnet50_Final.pth": Recorded(
        "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d", _RETINAFACE + "Resnet50_Final.pth"
    ),
    # The file was hashed here.
    "yunet_n_640_640.onnx": Recorded(
        "25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31",
        "https://github.com/ShiqiYu/libfacedetection.train (folder onnx)",
    ),
}
"""Known files by name."""


def sha256_of(path: str | Path) -> str:
    """SHA-256 (hex) of a file; asked again about an unchanged file (size, time) it does not read it again.

    Raises ``FaceDataError`` if there is no such file.
    """
    path = _existing(path)
    stat = path.stat()
    return _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def checked(path: str | Path, sha256: str | None = None, *, needs_hash: bool) -> str:
    """The file's SHA-256, once it is known to be the right one.

    ``sha256`` is what the user expects. Without it, a file with ``needs_hash`` (TorchScript: it is code) must be one
    of ``RECORDED``, under any name; another file only has to agree with ``RECORDED`` where its name is in there. That
    also finds half-written downloads, which facer itself would use. Raises ``FaceDataError`` otherwise.
    """
    path = Path(path)
    found = sha256_of(path)
    if sha256 is not None:
        if found != sha256:
            raise FaceDataError(f"weights {path}: its sha256 is {found}, the configuration expects {sha256}", "damaged")
        return found
    recorded = RECORDED.get(path.name)
    if recorded is not None and found != recorded.sha256:
        raise FaceDataError(
            f"weights {path}: its sha256 is {found}, the published file of that name has {recorded.sha256}: it is "
            f"incomplete or another file. Get it again from {recorded.url}, or set its sha256 in the configuration "
            "if you trust it",
            "damaged",
        )
    if needs_hash and found not in {known.sha256 for known in RECORDED.values()}:
        raise FaceDataError(
            f"weights {path}: a TorchScript file is code, and this one is not in the recorded table. If you trust it, "
            f'allow it by its hash: "sha256": "{found}"'
        )
    return found


def facer_cache(name: str) -> Path:
    """Where facer keeps a file of ``RECORDED``: ``$TORCH_HOME/hub/checkpoints``.

    Raises ``FaceDataError`` saying where to get it if it is not there.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        raise FaceDataError(
            f"weights {path}: no such file, and nothing is downloaded for you. Get it from {RECORDED[name].url} and "
            "put it there, or give its path in the configuration",
            "missing",
        )
    return path


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.pth`` file, on the CPU, read with ``weights_only=True``.

    A nested ``state_dict`` is taken out and the prefix ``module.`` removed, as facer does. Raises ``FaceDataError``
    for anything that is not a plain state dict.
    """
    path = _existing(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes make an unpickler raise whatever they happen to spell
        why = _first_line(error)
        raise FaceDataError(f"weights {path}: not a readable state dict of tensors ({why})", "damaged") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors = isinstance(content, dict) and all(isinstance(value, torch.Tensor) for value in content.values())
    if not tensors or not all(isinstance(name, str) for name in content):
        raise FaceDataError(f"weights {path}: expected a dict of tensors by name", "format")
    return {name.removeprefix("module."): value for name, value in content.items()}


def _first_line(error: Exception) -> str:
    """torch's own advice goes on for a page, and would have the file's code run."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FaceDataError(f"weights {path}: no such file", "missing")
    return path
