"""What to do where an optional package is missing: said in one way everywhere."""

from __future__ import annotations


def install_hint(extra: str) -> str:
    """How a pip extra is installed. The package is on no index: it is installed from a clone."""
    return f"`pip install '.[{extra}]'` in the project's folder"
