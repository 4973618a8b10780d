"""Tiny models and made faces a session; skips where no checkout of LLaVA-NeXT is named."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = os.environ.get("LLAVA_NEXT_ROOT")


class _Skipped(pytest.Module):
    """A test file that is not even imported: the same process may test LLaVA 1.5's package `llava`."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(
            "LLaVA-NeXT is on no package registry: scripts/hosts/llava_next.sh PATH tests a checkout of yours",
            allow_module_level=True,
        )


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if ROOT else _Skipped.from_parent(parent, path=module_path)


if ROOT:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    found = importlib.util.find_spec("llava")
    if found is None or not Path(found.origin or "").resolve().is_relative_to(Path(ROOT).resolve()):
        pytest.exit(
            f"package llava is {found and found.origin}, not that of LLAVA_NEXT_ROOT={ROOT}: the checkout must come "
            "first on PYTHONPATH, as scripts/hosts/llava_next.sh has it",
            returncode=2,
        )


@dataclass(frozen=True)
class Assets:
    """The folders that tests start from. Shared: do not write to them."""

    root: Path

    @cached_property
    def qwen(self) -> Path:
        from tests.hosts_next import next_assets

        return next_assets.build_qwen(self.root / "tiny-qwen2")

    @cached_property
    def vicuna(self) -> Path:
        from tests.hosts_next import next_assets

        return next_assets.build_llama(self.root / "tiny-vicuna")

    @cached_property
    def clip(self) -> Path:
        from tests.hosts_next import next_assets

        return next_assets.build_clip(self.root / "clip")

    @cached_property
    def siglip(self) -> str:
        """Its name; found by processes with HF_HOME = ``hub``."""
        from tests.hosts_next import next_assets

        return next_assets.build_siglip(self.hub)

    @cached_property
    def data(self) -> Path:
        from tests.hosts_next import next_assets

        return next_assets.build_data(self.root / "data")

    @property
    def hub(self) -> Path:
        return self.root / "hub"


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    return Assets(tmp_path_factory.mktemp("next"))
