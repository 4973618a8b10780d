"""Stage 1, summaries: some sentences about a clip from its attributes, by templates.

FaVChat's first stage is video summarisation, its summaries written by GPT-4o with the attributes at hand; prompts and
order are not in the readable part. What is said, the order (who and appearance, actions, emotions over time) and the
wording are our defaults.
"""

from __future__ import annotations

import random

from .clip_facts import APPEARANCE, ClipFacts, Span
from .face_description import Subject, describe, listed
from .wording import ACTIONS

PROMPTS = (
    "Summarize the video.",
    "Describe the person in the video, what the person does, and what the face expresses.",
    "Give a summary of the video: the person, the actions and the emotions.",
    "What does the video show? Describe it in some sentences.",
)

LOOKS: dict[str, str] = {
    "neutral": "neutral", "anger": "angry", "contempt": "contemptuous", "disgust": "disgusted", "happy": "happy",
    "fear": "afraid", "sadness": "sad", "surprise": "surprised",
}  # fmt: skip
"""CelebV-HQ's emotions as a face looks."""


def summary(clip: ClipFacts, seed: int) -> tuple[str, str]:
    """The request and the summary; ways to put it are chosen by seed and clip alone."""
    rng = random.Random(f"{seed}:{clip.id}:summary")
    prompt = rng.choice(PROMPTS)
    looks = {name: clip.attributes[name] for name in APPEARANCE if name in clip.attributes}
    subject = Subject(looks, {}, None, rng)
    said = describe(looks, {}, None, rng, ("The video shows", "The clip shows"))
    sentences = [said or "The video shows a person."]
    if clip.actions:
        sentences.append("In the clip " + _lower(subject.says("be", listed([ACTIONS[a] for a in clip.actions]))))
    sentences.append(_emotions(clip, subject.pronoun))
    return prompt, " ".join(sentences)


def _emotions(clip: ClipFacts, pronoun: str) -> str:
    spans = clip.emotions
    verb = "look" if pronoun == "They" else "looks"
    if len(clip.course) == 1:
        when = "throughout" if clip.steady else listed([_times(span) for span in spans])
        return f"{pronoun} {verb} {LOOKS[spans[0].emotion]} {when}."
    first, *others = [LOOKS[span.emotion] + (f" ({_times(span)})" if _times(span) else "") for span in spans]
    return f"{pronoun} first {verb} {first}, then {', then '.join(others)}."


def _times(span: Span) -> str:
    if span.start is None or span.end is None:
        return ""
    return f"from {span.start:.1f} to {span.end:.1f} seconds"


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
