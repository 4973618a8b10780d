"""Run a function just before or just after a module is first executed.

Standard library only, and nothing happens before one of the named modules is imported: this runs in every
Python process of the environment (see loader.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

Before = Callable[[], None]
After = Callable[[ModuleType], None]


class _ImportHook(MetaPathFinder):
    """Finds a watched module through the other finders and wraps its loader's ``exec_module``."""

    def __init__(self) -> None:
        self.before: dict[str, list[Before]] = {}
        self.after: dict[str, list[After]] = {}
        self._searching: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self._searching or (name not in self.before and name not in self.after):
            return None
        self._searching.add(name)
        try:
            spec = self._find_elsewhere(name, path, target)
        finally:
            self._searching.discard(name)
        if spec is not None and spec.loader is not None:
            self._wrap(name, spec)
        return spec

    def _find_elsewhere(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None

    def _wrap(self, name: str, spec: ModuleSpec) -> None:
        run = spec.loader.exec_module  # type: ignore[union-attr]

        def exec_module(module: ModuleType) -> None:
            if module.__name__ != name:  # one loader may serve many modules (zipimport)
                run(module)
                return
            for call in self.before.get(name, []):
                call()
            run(module)
            for follow in self.after.get(name, []):
                follow(module)
            # Only now: whoever repeats an import that failed on the way gets all of it again.
            self.before.pop(name, None)
            self.after.pop(name, None)

        # On the instance: a wrapping loader class would hide get_source() and friends.
        spec.loader.exec_module = exec_module  # type: ignore[union-attr, method-assign]


_HOOK = _ImportHook()


def is_imported(name: str) -> bool:
    """True once the module has run to its end (a module that is still executing does not count)."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return module is not None and not getattr(spec, "_initializing", False)


def when_imported(name: str, before: Before | None = None, after: After | None = None) -> None:
    """Calls ``before()`` and ``after(module)`` around the first execution of module ``name`` that succeeds.

    If the module was imported already, both are called at once. What they raise reaches whoever imports, as
    any error of the import does; the next attempt then calls them again.
    """
    if is_imported(name):
        if before is not None:
            before()
        if after is not None:
            after(sys.modules[name])
        return
    if _HOOK not in sys.meta_path:
        sys.meta_path.insert(0, _HOOK)
    if before is not None:
        _HOOK.before.setdefault(name, []).append(before)
    if after is not None:
        _HOOK.after.setdefault(name, []).append(after)


def is_watching() -> bool:
    """True if any module is still waited for in this process."""
    return _HOOK in sys.meta_path and bool(_HOOK.before or _HOOK.after)


def forget() -> None:
    """Drops every wait (for tests and ``deactivate``)."""
    _HOOK.before.clear()
    _HOOK.after.clear()
    if _HOOK in sys.meta_path:
        sys.meta_path.remove(_HOOK)
