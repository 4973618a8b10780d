"""Stages 2 and 3: questions about clips with answers from the labels, balanced by construction.

What can be asked is sorted into cells: an attribute with the clips that have it and those that lack it, an emotion, an
action, a change of emotion. From each cell at most ``cap`` questions are taken, yes and no equally often; the cap is
the largest that keeps the total within ``k`` questions a clip. So what is common (``talk`` is in 77 % of the clips)
does not drown what is rare. FaVChat's questions were written by GPT-4o; kinds, balance and wording are our defaults,
and ``k`` is after its 170,000 pairs for 60,000 videos.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .clip_facts import ACTION, APPEARANCE, EMOTION, ClipFacts
from .clip_summaries import LOOKS
from .wording import ACTIONS, closed_wordings

K = 3
"""Questions a clip, on average: 170,000 / 60,000, rounded."""

OPTIONS = 4
"""Of a choice between actions."""

EMOTIONAL = frozenset({*EMOTION, *ACTION, "emotion", "course", "change"})
"""Topics of stage 3."""


@dataclass(frozen=True)
class Item:
    """One question about one clip."""

    clip: str
    kind: str
    """``closed`` (yes or no), ``action`` and ``emotion`` (a choice), ``course`` (what comes first, last, in turn),
    ``change`` (whether the emotion changes; yes or no)."""
    topic: str
    """The attribute, or what else it is about."""
    question: str
    answer: str
    options: tuple[str, ...] = ()
    """Of a choice."""


Ask = Callable[[ClipFacts, random.Random], Item]


@dataclass(frozen=True)
class Cell:
    """Questions of one kind. Equally many are taken from each of ``groups``: clips, and how they are asked."""

    groups: tuple[tuple[Sequence[ClipFacts], Ask], ...]

    @property
    def most(self) -> int:
        """How many each group has at least."""
        return min(len(clips) for clips, _ in self.groups)


def questions(clips: Sequence[ClipFacts], k: int = K, seed: int = 0) -> list[Item]:
    """Stage 2: about ``k`` questions a clip, in the order of the clips. The same seed gives the same ones."""
    cells = [cell for cell in _cells(clips) if cell.most]
    cap = _cap(cells, k * len(clips))
    found: list[Item] = []
    for number, cell in enumerate(cells):
        rng = random.Random(f"{seed}:{number}:cell")
        for group, ask in cell.groups:
            found += [ask(clip, rng) for clip in rng.sample(list(group), min(cap, cell.most))]
    place = {clip.id: i for i, clip in enumerate(clips)}
    return sorted(found, key=lambda item: place[item.clip])  # stable: within a clip in the order of cells


def hard_questions(items: Sequence[Item], clips: Sequence[ClipFacts], seed: int = 0) -> list[Item]:
    """Stage 3: those of ``items`` that are about emotions and actions, of clips that are not neutral throughout.

    FaVChat's last stage is a subset of harder questions, in its later versions "emotion-intensive" ones. Of yes/no
    questions about one topic so many are left out that yes and no are equally many again. Easier ones first: the
    fewer clips have what is asked about, the harder it counts.
    """
    moved = {clip.id for clip in clips if set(clip.course) != {"neutral"}}
    kept = [item for item in items if item.topic in EMOTIONAL and item.clip in moved]
    counts = {name: sum(clip.attributes.get(name) == 1 for clip in clips) for name in (*ACTION, *EMOTION)}
    answer_of = {LOOKS[name]: name for name in EMOTION} | {ACTIONS[name]: name for name in ACTION}

    def ease(item: Item) -> int:
        rare = counts.get(item.topic, counts.get(answer_of.get(item.answer, ""), 0))
        return -rare if item.kind not in ("course", "change") else 1  # what takes the order of frames comes last

    return sorted(_evened(kept, seed), key=ease)


def _evened(items: Sequence[Item], seed: int) -> list[Item]:
    """``items`` in order, without the yes or no questions of a topic that have no counterpart."""
    by_answer: dict[tuple[str, str, str], list[int]] = {}
    for i, item in enumerate(items):
        if item.answer in ("Yes", "No"):
            by_answer.setdefault((item.kind, item.topic, item.answer), []).append(i)
    gone: set[int] = set()
    for (kind, topic, answer), places in by_answer.items():
        others = by_answer.get((kind, topic, "No" if answer == "Yes" else "Yes"), [])
        surplus = max(0, len(places) - len(others))
        gone.update(random.Random(f"{seed}:{kind}:{topic}:even").sample(places, surplus))
    return [item for i, item in enumerate(items) if i not in gone]


def _cap(cells: Sequence[Cell], budget: int) -> int:
    """The largest cap with which the cells give at most ``budget`` questions; at least 1."""
    low, high = 1, max((cell.most for cell in cells), default=1)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(len(cell.groups) * min(middle, cell.most) for cell in cells) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def _cells(clips: Sequence[ClipFacts]) -> Iterator[Cell]:
    for name in (*APPEARANCE, *ACTION, *EMOTION):
        groups = [[clip for clip in clips if clip.attributes.get(name) == value] for value in (1, 0)]
        yield Cell(tuple((group, _closed(name, said)) for group, said in zip(groups, ("Yes", "No"), strict=True)))
    steady = [clip for clip in clips if clip.steady]
    changing = [clip for clip in clips if len(clip.course) > 1]
    for name in ACTION:
        able = [c for c in clips if c.attributes.get(name) == 1 and len(ACTION) - len(c.actions) >= OPTIONS - 1]
        yield Cell(((able, _action(name)),))
    for name in EMOTION:
        yield Cell((([clip for clip in steady if clip.course[0] == name], _emotion),))
    yield Cell(((changing, _change("Yes")), (steady, _change("No"))))
    for ask in (_first, _last, _turns):
        yield Cell(((changing, ask),))


def _closed(name: str, answer: str) -> Ask:
    def ask(clip: ClipFacts, rng: random.Random) -> Item:
        return Item(clip.id, "closed", name, rng.choice(closed_wordings(name)), answer)

    return ask


def _action(name: str) -> Ask:
    """What the person does, among things that the person does not do."""

    def ask(clip: ClipFacts, rng: random.Random) -> Item:
        others = [ACTIONS[a] for a in ACTION if not clip.attributes.get(a)]
        options = [ACTIONS[name], *rng.sample(others, OPTIONS - 1)]
        rng.shuffle(options)
        text = f"Which of these does the person do in the video? Choose one: {', '.join(options)}."
        return Item(clip.id, "action", name, text, ACTIONS[name], tuple(options))

    return ask


def _emotion(clip: ClipFacts, rng: random.Random) -> Item:
    return _choice(clip, rng, "emotion", "emotion", "How does the person look in the video?", clip.course[0])


def _change(answer: str) -> Ask:
    def ask(clip: ClipFacts, rng: random.Random) -> Item:
        text = "Does the emotion of the person change in the video? Answer yes or no."
        return Item(clip.id, "change", "change", text, answer)

    return ask


def _first(clip: ClipFacts, rng: random.Random) -> Item:
    return _choice(clip, rng, "course", "course", "How does the person look first?", clip.course[0])


def _last(clip: ClipFacts, rng: random.Random) -> Item:
    text = "How does the person look at the end of the video?"
    return _choice(clip, rng, "course", "course", text, clip.course[-1])


def _turns(clip: ClipFacts, rng: random.Random) -> Item:
    answer = f"From {' to '.join(LOOKS[name] for name in clip.course)}"
    return Item(clip.id, "course", "course", "How does the emotion of the person change in the video?", answer)


def _choice(clip: ClipFacts, rng: random.Random, kind: str, topic: str, text: str, answer: str) -> Item:
    options = list(LOOKS.values())
    rng.shuffle(options)
    return Item(clip.id, kind, topic, f"{text} Choose one: {', '.join(options)}.", LOOKS[answer], tuple(options))
