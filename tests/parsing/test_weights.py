"""Weight files are what they should be, or are not loaded."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.parsing import weights
from llava_face_plugin.parsing.weights import RECORDED, checked, facer_cache, read_state_dict, sha256_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt"
    path.write_bytes(b"weights" * 1000)
    return path


def test_hash_is_that_of_the_content_and_follows_a_change(file: Path) -> None:
    assert sha256_of(file) == hashlib.sha256(b"weights" * 1000).hexdigest()
    file.write_bytes(b"other")
    assert sha256_of(file) == hashlib.sha256(b"other").hexdigest()


def test_an_unchanged_file_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sha256_of(file)
    before = weights._sha256.cache_info().misses
    assert sha256_of(os.path.relpath(file)) == first
    assert weights._sha256.cache_info().misses == before


def test_torchscript_that_nobody_vouches_for_is_refused_with_its_hash(file: Path) -> None:
    with pytest.raises(FaceDataError, match="code") as error:
        checked(file, needs_hash=True)
    assert sha256_of(file) in str(error.value) and str(file) in str(error.value)
    assert checked(file, sha256_of(file), needs_hash=True) == sha256_of(file)
    assert checked(file, needs_hash=False) == sha256_of(file)


@pytest.mark.parametrize("needs_hash", [True, False])
def test_a_given_hash_must_hold(file: Path, needs_hash: bool) -> None:
    with pytest.raises(FaceDataError, match="expects " + "0" * 64):
        checked(file, "0" * 64, needs_hash=needs_hash)


def test_recorded_torchscript_is_taken_under_any_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECORDED, "known.pt", weights.Recorded(sha256_of(file), "https://known"))
    assert checked(file, needs_hash=True) == sha256_of(file)


@pytest.mark.parametrize("name", list(RECORDED))
def test_a_half_written_download_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"half")
    with pytest.raises(FaceDataError, match="incomplete or another file") as error:
        checked(tmp_path / name, needs_hash=False)
    assert RECORDED[name].url in str(error.value)
    assert checked(tmp_path / name, hashlib.sha256(b"half").hexdigest(), needs_hash=True)  # the user's word counts


def test_facer_cache_is_torch_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    with pytest.raises(FaceDataError, match="nothing is downloaded") as error:
        facer_cache("Resnet50_Final.pth")
    assert error.value.reason == "missing" and "https://" in str(error.value)
    path = tmp_path / "hub" / "checkpoints" / "Resnet50_Final.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert facer_cache("Resnet50_Final.pth") == path


def test_state_dict_is_unwrapped(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.a.module.b": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pth")
    assert list(read_state_dict(tmp_path / "w.pth")) == ["a.module.b"]


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": _Code()}, "w.pth")
    Path("p.pth").write_bytes(pickle.dumps(_Code()))
    for name in ("w.pth", "p.pth"):
        with pytest.raises(FaceDataError, match=name):
            read_state_dict(name)
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", pickle.dumps([1, 2])])
def test_other_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(FaceDataError, match="w.pth"):
        read_state_dict(tmp_path / "w.pth")
    with pytest.raises(FaceDataError, match="no such file"):
        sha256_of(tmp_path / "none.pth")


def test_the_table_knows_the_real_detectors(real_faces: Path) -> None:
    for ours, published in (
        ("yunet_n_640_640.onnx", "yunet_n_640_640.onnx"),
        ("RetinaFace_mobilenet025.pth", "mobilenet0.25_Final.pth"),
    ):
        path = real_faces / "detectors" / ours
        if not path.is_file():
            pytest.skip(f"FACE_TEST_DATA has no detectors/{ours}")
        assert sha256_of(path) == RECORDED[published].sha256
