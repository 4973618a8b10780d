from __future__ import annotations

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Cooccurrence, count, merge
from llava_face_plugin.knowledge.cooccurrence import wilson

NAMES = ("Bald", "Hat", "Male")
LABELS = np.array([[1, 0, 1], [1, 1, 1], [0, 1, 0], [0, 1, -1], [1, -1, 0]], dtype=np.int8)


def test_counts_and_probabilities_by_hand() -> None:
    cooc = count(NAMES, [LABELS])
    np.testing.assert_array_equal(cooc.joint, [[3, 1, 2], [1, 3, 1], [2, 1, 2]])
    # Bald rows: 0, 1, 4; Hat is unknown in row 4. Hat rows: 1, 2, 3; Male is unknown in row 3.
    np.testing.assert_array_equal(cooc.support, [[3, 2, 3], [3, 3, 2], [2, 2, 2]])
    np.testing.assert_array_equal(cooc.both, [[5, 4, 4], [4, 4, 3], [4, 3, 4]])
    np.testing.assert_array_equal(cooc.known, [5, 4, 4])
    assert cooc.rows == 5 and cooc.joint.dtype == cooc.support.dtype == cooc.both.dtype == np.int64
    np.testing.assert_allclose(cooc.conditional(), [[1, 1 / 2, 2 / 3], [1 / 3, 1, 1 / 2], [1, 1 / 2, 1]])
    np.testing.assert_allclose(cooc.prior(), [3 / 5, 3 / 4, 2 / 4])


def test_conditional_is_p_of_column_given_row() -> None:
    labels = np.array([[1, 1], [0, 1], [0, 1], [0, 1]], dtype=np.int8)
    p = count(("a", "b"), [labels]).conditional()
    assert p[0, 1] == 1.0 and p[1, 0] == 0.25


def test_attribute_that_never_occurs_gives_zeros() -> None:
    cooc = count(("a", "b", "c"), [np.array([[1, 0, -1], [1, 1, -1]], dtype=np.int8)])
    np.testing.assert_allclose(cooc.conditional(), [[1, 0.5, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(cooc.prior(), [1, 0.5, 0])


def test_batches_and_merge_equal_one_count() -> None:
    labels = np.random.default_rng(0).integers(-1, 2, (70_000, 3)).astype(np.int8)  # more than one chunk
    whole = count(NAMES, [labels])
    merged = merge(count(NAMES, iter([labels[:7], labels[7:7]])), count(NAMES, [labels[7:]]))
    for part in ("joint", "support", "both", "rows"):
        np.testing.assert_array_equal(getattr(whole, part), getattr(merged, part))
    i, j = 0, 2
    assert whole.joint[i, j] == sum(a == 1 and b == 1 for a, b in labels[:, [i, j]])
    assert whole.support[i, j] == sum(a == 1 and b != -1 for a, b in labels[:, [i, j]])


def test_merge_refuses_another_vocabulary() -> None:
    empty = count(NAMES, [])
    with pytest.raises(FaceDataError, match="only in the first: Hat; only in the second: Wig"):
        merge(empty, count(("Bald", "Wig", "Male"), []))
    with pytest.raises(FaceDataError, match="another order"):
        merge(empty, count(NAMES[::-1], []))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((2, 4), dtype=np.int8), r"shape \(2, 4\); expected \(rows, 3 attributes\)"),
        (np.zeros(3, dtype=np.int8), r"shape \(3,\)"),
        (np.array([[0, 1, 0], [0, 2, 0]], dtype=np.int8), "'Hat' in row 1 of its batch is 2"),
        (np.array([[0.5, 1, 0]]), "'Bald' in row 0 of its batch is 0.5"),
    ],
)
def test_wrong_batches_are_refused(batch: np.ndarray, message: str) -> None:
    with pytest.raises(FaceDataError, match=message):
        count(NAMES, [LABELS, batch])


def test_instances_are_frozen() -> None:
    cooc = count(NAMES, [LABELS])
    assert isinstance(cooc, Cooccurrence)
    with pytest.raises(AttributeError):
        cooc.rows = 7  # type: ignore[misc]


def test_wilson_intervals() -> None:
    """Against values computed apart from numpy (10 of 100: the textbooks' 5.5 to 17.4 %), and closed forms."""
    low, high = wilson(np.array([1, 10, 0, 50]), np.array([50, 100, 100, 50]))
    np.testing.assert_allclose(low, [0.003539, 0.055229, 0.0, 0.928650], atol=1e-6)
    np.testing.assert_allclose(high, [0.104957, 0.174367, 0.036995, 1.0], atol=1e-6)
    assert high[2] == pytest.approx(1.96**2 / (100 + 1.96**2)) and low[3] == pytest.approx(50 / (50 + 1.96**2))
    assert [float(bound) for bound in wilson(0, 0)] == [0.0, 1.0]


def test_wilson_covers() -> None:
    """95 % intervals of a binomial contain its p in about 95 % of the draws, also for rare attributes."""
    generator = np.random.default_rng(0)
    for p in (0.003, 0.02, 0.5):
        low, high = wilson(generator.binomial(2000, p, 20_000), 2000)
        assert ((low <= p) & (p <= high)).mean() == pytest.approx(0.95, abs=0.02)


def test_interval_of_p() -> None:
    cooc = count(NAMES, [LABELS])
    low, high = cooc.interval()
    p = cooc.conditional()
    assert ((low <= p) & (p <= high) & (low >= 0) & (high <= 1)).all()
    np.testing.assert_allclose([low[0, 1], high[0, 1]], [float(b) for b in wilson(1, 2)])
    rare = count(("a", "b"), [np.zeros((3, 2), dtype=np.int8)]).interval()
    assert rare[0].tolist() == [[0.0] * 2] * 2 and rare[1].tolist() == [[1.0] * 2] * 2
