"""lmms-eval's ``generation_kwargs`` of one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import FaceConfigError

MAX_NEW_TOKENS = 1024
"""Where a task says nothing, as lmms-eval's ``llava_hf``."""

_SAMPLING = ("top_p", "top_k")


@dataclass(frozen=True)
class Generation:
    """How one answer is to be generated."""

    max_new_tokens: int
    until: tuple[str, ...] = ()
    """The answer ends before the first of these."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """For the host's own ``generate``; empty if the answer is plainly greedy."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Generation:
        """Sampling is asked for by a temperature above 0, as in lmms-eval's models, unless ``do_sample`` is false; or
        by ``do_sample`` alone. What ``generate`` does not know is left out. Raises ``FaceConfigError``."""
        known = {name: value for name, value in given.items() if value is not None}
        until = known.pop("until", ())
        until = (until,) if isinstance(until, str) else tuple(until)
        if not all(isinstance(text, str) for text in until):
            raise FaceConfigError(f"generation_kwargs: until={until!r} must be texts")
        tokens = known.pop("max_new_tokens", MAX_NEW_TOKENS)
        if not isinstance(tokens, int) or tokens < 1:
            raise FaceConfigError(f"generation_kwargs: max_new_tokens={tokens!r} must be a whole number above 0")
        options = _options(known)
        return cls(tokens, tuple(text for text in until if text), options)

    @property
    def greedy(self) -> bool:
        """Whether our own decoding applies."""
        return not self.options

    def cut(self, text: str) -> str:
        """The answer up to the first stop text."""
        for stop in self.until:
            text = text.split(stop, 1)[0]
        return text

    def ended(self, ids: Sequence[int], text_of: Callable[[Sequence[int]], str]) -> Sequence[int]:
        """An answer's tokens through the first that completes a stop text: where our decoding ends."""
        if not self.until:
            return ids
        ends = (count for count in range(1, len(ids)) if self.stopped(text_of(ids[:count])))
        return ids[: next(ends, len(ids))]

    def stopped(self, text: str) -> bool:
        """Whether a stop text has come."""
        return any(stop in text for stop in self.until)


def _options(known: dict[str, Any]) -> dict[str, Any]:
    temperature = float(known.pop("temperature", 1.0 if known.get("do_sample") is True else 0.0))
    sample = temperature > 0 and known.pop("do_sample", True) is not False
    known.pop("do_sample", None)
    beams = int(known.pop("num_beams", 1))
    sampling = {name: known.pop(name) for name in _SAMPLING if name in known}
    options = {name: value for name, value in known.items() if name in _known_to_generate()}
    if sample:
        options |= {"do_sample": True, "temperature": temperature, **sampling}
    if beams > 1:
        options["num_beams"] = beams
    return options


def _known_to_generate() -> frozenset[str]:
    from transformers import GenerationConfig

    # use_cache changes the cost, not the answer
    return frozenset(vars(GenerationConfig())) - {"use_cache", "max_length"}
