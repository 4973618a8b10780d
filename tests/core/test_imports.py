"""The import hook, on modules written for the occasion and with a hook of the test's own."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from llava_face_plugin.hosts import imports

NAME = "face_test_module"
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module; the process's own hook, which may wait for ``llava``, stays untouched."""
    hook = imports._ImportHook()
    monkeypatch.setattr(imports, "_HOOK", hook)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(text: str = "value = 1\n", name: str = NAME) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()

    yield make
    for name in [n for n in sys.modules if n.startswith(NAME)]:
        del sys.modules[name]
    if hook in sys.meta_path:
        sys.meta_path.remove(hook)


def load(name: str = NAME) -> ModuleType:
    return importlib.import_module(name)


def test_before_and_after_surround_the_first_execution(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("import sys\nsys.face_test_log.append('run')\n")
    log: list[str] = []
    monkeypatch.setattr(sys, "face_test_log", log, raising=False)
    imports.when_imported(NAME, before=lambda: log.append("before"), after=lambda m: log.append(m.__name__))
    assert log == [] and imports.is_watching() and not imports.is_imported(NAME)
    load()
    load()
    assert log == ["before", "run", NAME]
    assert not imports.is_watching() and imports.is_imported(NAME)
    importlib.reload(sys.modules[NAME])
    assert log == ["before", "run", NAME, "run"]


def test_an_imported_module_is_answered_at_once(write: Write) -> None:
    write()
    load()
    log: list[object] = []
    imports.when_imported(NAME, before=lambda: log.append("before"), after=log.append)
    assert log == ["before", sys.modules[NAME]]
    assert not imports.is_watching()


def test_a_module_that_is_still_executing_is_not_imported(write: Write) -> None:
    write("from llava_face_plugin.hosts import imports\nseen = imports.is_imported(__name__)\n")
    assert load().seen is False


def test_callbacks_are_called_in_the_order_they_came(write: Write) -> None:
    write()
    log: list[int] = []
    for i in range(3):
        imports.when_imported(NAME, after=lambda m, i=i: log.append(i))  # type: ignore[misc]
    load()
    assert log == [0, 1, 2]


def test_a_callback_may_ask_for_the_module_again(write: Write) -> None:
    write()
    log: list[str] = []

    def first(module: ModuleType) -> None:
        imports.when_imported(NAME, after=lambda m: log.append("second"))
        log.append("first")

    imports.when_imported(NAME, after=first)
    load()
    assert log == ["first", "second"]


def test_a_failing_import_keeps_the_callbacks_for_the_next_attempt(write: Write) -> None:
    write("raise RuntimeError('not yet')\n")
    log: list[str] = []
    imports.when_imported(NAME, before=lambda: log.append("before"), after=lambda m: log.append("after"))
    with pytest.raises(RuntimeError, match="not yet"):
        load()
    assert NAME not in sys.modules and imports.is_watching()
    write("value = 123456\n")
    assert load().value == 123456
    assert log == ["before", "before", "after"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_failing_callback_fails_the_import_every_time(write: Write, moment: str) -> None:
    write()

    def fail(*args: object) -> None:
        raise RuntimeError(moment)

    imports.when_imported(NAME, **{moment: fail})  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(RuntimeError, match=moment):
            load()
        assert NAME not in sys.modules


def test_a_missing_module_stays_missing(write: Write) -> None:
    imports.when_imported(f"{NAME}_that_is_not_there", after=lambda m: None)
    assert importlib.util.find_spec(f"{NAME}_that_is_not_there") is None
    with pytest.raises(ModuleNotFoundError):
        load(f"{NAME}_that_is_not_there")


def test_looking_for_the_spec_calls_nothing(write: Write) -> None:
    write()
    log: list[str] = []
    imports.when_imported(NAME, after=lambda m: log.append("after"))
    assert importlib.util.find_spec(NAME) is not None
    assert log == [] and imports.is_watching()
    load()
    assert log == ["after"]


def test_source_and_loader_stay_those_of_the_module(write: Write, tmp_path: Path) -> None:
    write("def answer():\n    return 42\n")
    imports.when_imported(NAME, after=lambda m: None)
    module = load()
    spec = module.__spec__
    assert spec is not None and spec.loader is not None
    assert spec.loader.get_source(NAME) == "def answer():\n    return 42\n"  # type: ignore[attr-defined]
    assert inspect.getsource(module.answer) == "def answer():\n    return 42\n"
    assert spec.origin == module.__file__ == str(tmp_path / f"{NAME}.py")


def test_modules_that_share_a_loader_are_told_apart(write: Write, tmp_path: Path) -> None:
    archive = tmp_path / "modules.zip"
    with zipfile.ZipFile(archive, "w") as stream:
        for name in (NAME, f"{NAME}_other"):
            stream.writestr(f"{name}.py", "value = 1\n")
    sys.path.insert(0, str(archive))
    log: list[str] = []
    imports.when_imported(NAME, after=lambda m: log.append(m.__name__))
    importlib.util.find_spec(NAME)
    load(f"{NAME}_other")
    assert log == []
    load()
    assert log == [NAME]


def test_other_modules_are_not_touched(write: Write) -> None:
    write()
    write(name=f"{NAME}_other")
    log: list[str] = []
    imports.when_imported(NAME, after=lambda m: log.append(m.__name__))
    load(f"{NAME}_other")
    assert log == []


def test_forget_drops_every_wait(write: Write) -> None:
    write()
    log: list[str] = []
    imports.when_imported(NAME, before=lambda: log.append("before"))
    imports.forget()
    load()
    assert log == [] and not imports.is_watching()
