"""How the shims of LLaVA-NeXT decide, without LLaVA-NeXT (tests/hosts_next has it)."""

from __future__ import annotations

from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.hosts.compat import next_compat, next_shim
from llava_face_plugin.hosts.compat.next_shim import NextShim, imports_gone
from llava_face_plugin.hosts.compat.next_trainer import undefined_names
from llava_face_plugin.hosts.environment import NEXT_COMPAT_SWITCH


def _function(body: str, **module: Any) -> FunctionType:
    exec(f"def f(self):\n    {body}", module)
    function = module["f"]
    assert isinstance(function, FunctionType)
    return function


def test_a_loop_without_its_imports_is_seen_and_one_with_them_is_not() -> None:
    body = "return math.ceil(len(self.DebugOption))"  # an attribute and a builtin are no globals
    assert undefined_names(_function(body)) == {"math"}
    assert undefined_names(_function(body, math=1)) == set()
    assert undefined_names(None) == set(), "a checkout without the pasted loop"


def test_names_that_a_module_lost_are_read_off_the_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(
        "from json import dumps, vanished as v\nfrom os import gone\ntry:\n    from json import tried\nexcept: pass\n"
    )
    monkeypatch.setattr(next_shim, "_package_folder", lambda: tmp_path)
    assert imports_gone("file.py", "json") == ["vanished"]
    assert imports_gone("other.py", "json") == [], "a checkout without that file"


@pytest.fixture
def shims(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three shims in place of the real ones; the list of those that mended."""
    done: list[str] = []

    def shim(key: str, needed: bool, opt_in: bool) -> NextShim:
        return NextShim(
            key, f"{key}.py:1", "4.57", "It breaks", "trainer", lambda: needed, lambda: done.append(key), opt_in
        )

    made = (shim("always", True, False), shim("asked", True, True), shim("idle", False, True))
    monkeypatch.setattr(next_compat, "SHIMS", made)
    monkeypatch.setattr(next_compat, "_applied", [])
    _install(monkeypatch, 4, 57, 6)
    return done


def _install(monkeypatch: pytest.MonkeyPatch, *release: int) -> None:
    monkeypatch.setattr(next_compat, "release_of", lambda name: release)


def test_what_nobody_asked_for_is_refused_by_name_and_nothing_is_mended(
    shims: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NEXT_COMPAT_SWITCH, raising=False)
    with pytest.raises(
        FaceHostError, match=r"4\.57\.6.*asked\.py:1: It breaks.*4\.40\.x.*LLAVA_FACE_NEXT_COMPAT=1"
    ) as raised:
        next_compat.apply("trainer")
    assert isinstance(raised.value, ImportError), "lmms-eval tries imports"
    assert "always" not in str(raised.value) and "idle" not in str(raised.value)
    assert shims == [] and next_compat.applied() == ()


def test_what_is_asked_for_is_mended_once(shims: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NEXT_COMPAT_SWITCH, "1")
    assert next_compat.apply("before_llava") == []
    assert next_compat.apply("trainer") == ["always", "asked"] == shims == list(next_compat.applied())
    assert next_compat.apply("trainer") == [] and len(shims) == 2


def test_transformers_5_is_refused_even_when_asked_for(shims: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NEXT_COMPAT_SWITCH, "1")
    _install(monkeypatch, 5, 23, 0)
    with pytest.raises(FaceHostError, match=r"5\.23\.0.*4\.40\.x.*4\.57\.x"):
        next_compat.apply("trainer")
    assert shims == []


@pytest.mark.parametrize(
    ("release", "known"),
    [((4, 40, 2), True), ((4, 57, 6), True), ((4, 50, 0), False), ((5, 23, 0), False), ((), False)],
)
def test_face_mode_knows_two_series(monkeypatch: pytest.MonkeyPatch, release: tuple[int, ...], known: bool) -> None:
    _install(monkeypatch, *release)
    if known:
        next_compat.check()
        return
    with pytest.raises(FaceHostError, match=r"4\.40\.x.*4\.57\.x"):
        next_compat.check()


def test_next_shims_are_described_and_unique() -> None:
    keys = [shim.key for shim in next_compat.SHIMS]
    assert len(keys) == len(set(keys)) == 10
    for shim in next_compat.SHIMS:
        assert shim.where and shim.breaks_on and shim.symptom and shim.mend.__doc__, shim.key
    assert {s.key for s in next_compat.SHIMS if s.opt_in} == {"names", "trnames", "acc", "ckpt", "seed"}
