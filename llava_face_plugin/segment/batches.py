"""A parser that is asked in batches: one bad image does not take its batch with it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import FaceConfigError, FaceHostError
from ..parsing.base import Parsed, Parser

if TYPE_CHECKING:
    from .work import Loaded


class BatchedParser:
    """Asks the parser about batches, and about single images where a batch fails.

    When memory runs out the batches are halved, once and for good.
    """

    def __init__(self, parser: Parser) -> None:
        self.parser = parser
        self.most: int | None = None
        """Images a batch since memory ran out."""

    def parse(self, batch: Sequence[Loaded]) -> list[Parsed | Exception]:
        """What the parser says, or raises, of each image.

        Raises ``FaceHostError`` when memory runs out a second time, and the parser's own ``FaceHostError`` and
        ``FaceConfigError``.
        """
        size = self.most or max(1, len(batch))
        return [result for at in range(0, len(batch), size) for result in self._parse(batch[at : at + size])]

    def _parse(self, batch: Sequence[Loaded]) -> list[Parsed | Exception]:
        try:
            results = self.parser.parse([item.image for item in batch], [item.row.image for item in batch])
            if len(results) != len(batch):
                raise ValueError(f"the parser returned {len(results)} results for {len(batch)} images")
            return list(results)
        except (FaceHostError, FaceConfigError):  # nothing that another image would change
            raise
        except Exception as error:
            if _out_of_memory(error):
                return self._in_halves(batch, error)
            if len(batch) == 1:
                return [error]
        return [result for item in batch for result in self._parse([item])]

    def _in_halves(self, batch: Sequence[Loaded], error: Exception) -> list[Parsed | Exception]:
        if self.most is not None or len(batch) == 1:
            raise FaceHostError(
                f"the parser ran out of memory with {len(batch)} images in a batch: lower --images-per-batch or "
                f"--batch-size, or use another --device ({str(error)[:200]})"
            ) from error
        self.most = len(batch) // 2
        warnings.warn(f"out of memory with {len(batch)} images in a batch: going on with {self.most}", stacklevel=2)
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self.parse(batch)


def _out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # where it is not loaded, nothing can have come from it
    if torch is not None and isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)
