"""What differs between transformers 4.37, 4.57 and 5.23: cache, 4D attention masks, what ``generate`` gives back."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor


def new_cache() -> Any:
    """An empty cache that grows."""
    from transformers import DynamicCache

    return DynamicCache()


def crop(cache: Any, length: int) -> None:
    """Forgets all positions from ``length`` on, in place."""
    if hasattr(cache, "crop"):
        surplus = cache.get_seq_length() - length
        if surplus:
            cache.crop(-surplus)  # 5.x takes what to remove, not what to keep; 4.57 either
        return
    # transformers 4.37: lists of (R, H, T, d), and a count of its own
    cache.key_cache = [keys[..., :length, :] for keys in cache.key_cache]
    cache.value_cache = [values[..., :length, :] for values in cache.value_cache]
    cache.seen_tokens = length


def mask_4d(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """(R, T, K) bool, who sees what -> the (R, 1, T, K) mask that the installed transformers takes as it is."""
    if _takes_ones():
        return seen[:, None].to(dtype)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    # The least number, not -inf: a padding row that sees nothing must not become NaN.
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def starts_with_bos() -> bool:
    """Whether ``generate`` puts a begin token before the answer where it is given embeddings."""
    return release() < (4, 38)


def _takes_ones() -> bool:
    return release() < (4, 40)


@functools.cache
def release() -> tuple[int, ...]:
    """(major, minor) of the installed transformers."""
    import transformers

    return tuple(int(part) for part in transformers.__version__.split(".")[:2])
