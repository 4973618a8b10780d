"""The data sets that ``llava-face prepare`` knows: one file each, found by being in this folder.

A file whose name has no leading underscore (and is not ``base``) is a data set: it must have
``INFO = DatasetInfo(...)``. Two files that claim one name are refused.
"""

from __future__ import annotations

import importlib
import pkgutil

from ...registry import Registry
from .base import DatasetInfo, ReadOptions

__all__ = ["DATASETS", "DatasetInfo", "ReadOptions"]

DATASETS: Registry[DatasetInfo] = Registry("data set")

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_") and _module.name != "base":
        _info: DatasetInfo = importlib.import_module(f"{__name__}.{_module.name}").INFO
        DATASETS.register(_info.name)(_info)
