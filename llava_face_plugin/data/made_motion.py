"""What happens in a made clip: pairs of events that consist of the very same frames in another order.

Nothing of a single frame tells which of the two it is; only the order does. For all kinds but ``smile`` not even the
frame at a given place of the clip does: over all starts it shows every state equally often in both (a smile that
starts must begin without one). The kinds, and their numbers, are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .made_portrait import Motion

LEAST_FRAMES = 9
"""Fewer would not show three poses in each direction of a nod."""

TURN, NOD = 0.34, 0.26
"""Radians of the widest turn and nod."""


@dataclass(frozen=True)
class Kind:
    """A pair of events.

    ``values``: their names as attributes. ``answers``: in words. ``course(n, which, start)``: the n states of event
    ``which`` (0 or 1), begun at ``start``; 0 <= start < ``starts(n)``. ``varies``: attributes that are not constant in
    such a clip. ``hides``: attributes that could hide the event, and are not drawn in such a clip.
    """

    name: str
    values: tuple[str, str]
    answers: tuple[str, str]
    course: Callable[[int, int, int], tuple[Motion, ...]]
    starts: Callable[[int], int]
    varies: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()


def _head(n: int, which: int, start: int) -> tuple[Motion, ...]:
    """All poses of a grid: along its columns the head nods while it turns slowly, along its rows it is shaken while
    it sinks slowly. What is left of n is spent at rest."""
    side = math.isqrt(n)
    steps = np.linspace(-1, 1, side).tolist()
    poses = []
    for i, slow in enumerate(steps):
        for fast in steps if i % 2 == 0 else steps[::-1]:
            turn, nod = (slow, fast) if which == 0 else (fast, slow)
            poses.append(Motion(turn=TURN * turn, nod=NOD * nod))
    poses += [Motion()] * (n - len(poses))
    return _from(poses, start)


def _smile(n: int, which: int, start: int) -> tuple[Motion, ...]:
    rising = [Motion(smile=float(s)) for s in np.linspace(0, 1, n)]
    return tuple(rising if which == 0 else rising[::-1])


def _blink(n: int, which: int, start: int) -> tuple[Motion, ...]:
    """Once: two closed frames side by side. Twice: one here, the other where the second one of another start is."""
    closed = {start, ((start + (n - 1) // 2) % (n - 1) if which else start) + 1}
    return tuple(Motion(blink=float(i in closed)) for i in range(n))


def _mouth(n: int, which: int, start: int) -> tuple[Motion, ...]:
    """Opens within a quarter of the time that it has, and closes in the rest; the other event is that backwards."""
    rise = max(2, n // 4)
    cycle = [*np.linspace(0, 1, rise, endpoint=False), *np.linspace(1, 0, n - rise, endpoint=False)]
    states = [Motion(mouth=float(m)) for m in cycle]
    return _from(states if which == 0 else states[::-1], start)


def _from(states: list[Motion], start: int) -> tuple[Motion, ...]:
    return (*states[start:], *states[:start])


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("head", ("Nods", "Shakes_Head"), ("nods", "shakes the head"), _head, lambda n: n),
        Kind("smile", ("Smile_Starts", "Smile_Fades"), ("starts to smile", "stops smiling"), _smile, lambda n: 1,
             varies=("Smiling",)),
        # Dark glasses would hide it.
        Kind("blink", ("Blinks_Once", "Blinks_Twice"), ("blinks once", "blinks twice"), _blink, lambda n: n - 1,
             hides=("Eyeglasses",)),
        Kind("mouth", ("Mouth_Opens_Faster", "Mouth_Closes_Faster"),
             ("opens the mouth faster than it closes", "closes the mouth faster than it opens"), _mouth, lambda n: n,
             varies=("Mouth_Slightly_Open",)),
    )
}  # fmt: skip

TEMPORAL: tuple[str, ...] = tuple(value for kind in KINDS.values() for value in kind.values)
"""The attributes that only the order of the frames tells."""

QUESTION = "What does the person do in the clip? Choose one: {options}."
