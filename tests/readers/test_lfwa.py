"""LFWA's MATLAB files: names as authors write them, wrong values, other files, and a reader that crashes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mat_samples import lfwa, write_mat
from sample_parts import read

from llava_face_plugin.data import mat
from llava_face_plugin.errors import FaceDataError, FaceHostError
from llava_face_plugin.labels import CELEBA_ATTRIBUTES

pytest.importorskip("h5py")
NAMES = [f"A_B\\A_B_{i:04d}.jpg" for i in range(1, 4)] + ["C\\C_0001.jpg"]
LABELS = np.eye(4, 40)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    (tmp_path / "lfw").mkdir()

    def written(names=NAMES, attributes=CELEBA_ATTRIBUTES, labels=LABELS, train=(1, 2, 3), test=(4,)) -> Path:  # type: ignore[no-untyped-def]
        cells = {"AttrName": list(attributes), "name": list(names)}
        write_mat(tmp_path / "lfw_att_40.mat", cells, {"label": labels})
        lists = {"indices_img_train": np.array([train]), "indices_img_test": np.array([test])}  # rows, not columns
        write_mat(tmp_path / "indices_train_test.mat", {}, lists)
        return tmp_path

    return written


def test_matlab_orientation_and_indices_from_1(write: Write) -> None:
    found = read("lfwa", write())
    assert found.images.tolist() == ["lfw/A_B/A_B_0001.jpg", "lfw/A_B/A_B_0002.jpg", "lfw/A_B/A_B_0003.jpg",
                                     "lfw/C/C_0001.jpg"]  # fmt: skip
    assert found.attributes.tolist() == LABELS.astype(int).tolist() and found.split.tolist() == [0, 0, 0, 2]
    assert found.identity is not None and found.identity.tolist() == [0, 0, 0, 1]
    assert found.notes[0] == (
        "usable rows differ from the published counts: train 3 (6,263 published), test 1 (6,880 published)"
    )
    assert {str(s["name"]) for s in found.sources} == {"lfw_att_40.mat", "indices_train_test.mat"}


def test_attribute_names_in_another_spelling_and_order(write: Write) -> None:
    spelled = [a.replace("_", " ").replace("5 o Clock", "5 o' Clock") for a in reversed(CELEBA_ATTRIBUTES)]
    found = read("lfwa", write(attributes=spelled))
    assert found.vocabulary == tuple(reversed(CELEBA_ATTRIBUTES))
    with pytest.raises(FaceDataError, match=r"lfw_att_40.mat: AttrName: unknown attribute 'Brown_Eyes'"):
        read("lfwa", write(attributes=["Brown_Eyes", *CELEBA_ATTRIBUTES[1:]]))


def test_bad_rows_are_counted_and_named(write: Write) -> None:
    labels = LABELS.copy()
    labels[1, 7] = -1
    found = read("lfwa", write(names=["no_folder.jpg", *NAMES[1:]], labels=labels, train=(1, 2), test=(4,)))
    assert found.images.tolist() == ["lfw/C/C_0001.jpg"]
    assert found.skipped == {"bad image name": 1, "unknown value": 1, "no official split": 1}
    assert "lfw_att_40.mat, row 1: 'no_folder.jpg' is not in a person's folder" in found.problems[0]
    assert "lfw_att_40.mat, row 2: a value is -1; expected 0 or 1" in found.problems[1]
    assert "lfw_att_40.mat, row 3: it is in neither list of" in found.problems[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": LABELS.T}, r"lfw_att_40.mat: label is 40 x 4, but there are 4 names and 40 attributes"),
        (
            {"train": (1, 2, 3, 5)},
            r"indices_train_test.mat: indices_img_train, entry 4: 5 is no row of .*, which",
        ),
        ({"test": (0,)}, r"indices_img_test, entry 1: 0 is no row"),
        ({"test": (4, 1)}, r"indices_train_test.mat: indices_img_test: row 1 of .* occurs twice"),
        ({"train": (1, 2, 2, 3)}, r"indices_img_train: row 2 of .* occurs twice"),
    ],
)
def test_files_that_do_not_fit_together(write: Write, change: dict[str, object], message: str) -> None:
    with pytest.raises(FaceDataError, match=message):
        read("lfwa", write(**change))


def test_other_files_are_refused(write: Write) -> None:
    root = write()
    path = root / "lfw_att_40.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: PCWIN64".ljust(600))
    with pytest.raises(FaceDataError, match=r"an older MATLAB file; .*save\('lfw_att_40.mat', .*'-v7.3'\)"):
        read("lfwa", root)
    path.write_bytes(b"name label".ljust(600))
    with pytest.raises(FaceDataError, match=r"lfw_att_40.mat: not a MATLAB 7.3 file"):
        read("lfwa", root)
    write_mat(path, {"AttrName": list(CELEBA_ATTRIBUTES)}, {"label": LABELS})
    with pytest.raises(FaceDataError, match=r"lfw_att_40.mat: cannot be read \(ValueError: it has no variable name\)"):
        read("lfwa", root)
    write_mat(path, {"AttrName": ["x"]}, {"label": LABELS, "name": LABELS})
    with pytest.raises(FaceDataError, match=r"lfw_att_40.mat: cannot be read"):
        read("lfwa", root)


def test_a_crash_of_the_reader_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program goes on: what reads the file is another process."""
    lfwa(tmp_path, np.random.default_rng(0))

    def crash(data: bytes, wanted: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([sys.executable, "-c", "import os; os.abort()"], capture_output=True)

    monkeypatch.setattr(mat, "run_apart", crash)
    with pytest.raises(FaceDataError, match=r"lfw_att_40.mat: cannot be read \(HDF5 crashed on it, signal 6\)"):
        read("lfwa", tmp_path)


def test_needs_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lfwa(tmp_path, np.random.default_rng(0))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(FaceHostError, match=r"lfw_att_40.mat: MATLAB files need h5py: .*\[mat\]"):
        read("lfwa", tmp_path)
