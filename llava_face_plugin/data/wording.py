"""How attributes and closed-set labels are asked about. All wording is our default."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

from ..errors import FaceDataError
from ..labels import prompt_of
from ..registry import unknown_name

ANSWER_HINT = "Answer yes or no."

QUESTIONS: dict[str, str] = {
    "5_o_Clock_Shadow": "Does the person have a five o'clock shadow?",
    "Arched_Eyebrows": "Does the person have arched eyebrows?",
    "Attractive": "Would annotators call the person attractive?",
    "Bags_Under_Eyes": "Does the person have bags under the eyes?",
    "Bald": "Is the person bald?",
    "Bangs": "Does the person have bangs?",
    "Big_Lips": "Does the person have big lips?",
    "Big_Nose": "Does the person have a big nose?",
    "Black_Hair": "Is the person's hair black?",
    "Blond_Hair": "Is the person's hair blond?",
    "Blurry": "Is the picture blurry?",
    "Brown_Hair": "Is the person's hair brown?",
    "Bushy_Eyebrows": "Does the person have bushy eyebrows?",
    "Chubby": "Is the person chubby?",
    "Double_Chin": "Does the person have a double chin?",
    "Eyeglasses": "Is the person wearing eyeglasses?",
    "Goatee": "Does the person have a goatee?",
    "Gray_Hair": "Is the person's hair gray?",
    "Heavy_Makeup": "Is the person wearing heavy make-up?",
    "High_Cheekbones": "Does the person have high cheekbones?",
    "Male": "Is the person male?",
    "Mouth_Slightly_Open": "Is the person's mouth slightly open?",
    "Mustache": "Does the person have a mustache?",
    "Narrow_Eyes": "Does the person have narrow eyes?",
    "No_Beard": "Is the person without a beard?",
    "Oval_Face": "Does the person have an oval face?",
    "Pale_Skin": "Does the person have pale skin?",
    "Pointy_Nose": "Does the person have a pointy nose?",
    "Receding_Hairline": "Does the person have a receding hairline?",
    "Rosy_Cheeks": "Does the person have rosy cheeks?",
    "Sideburns": "Does the person have sideburns?",
    "Smiling": "Is the person smiling?",
    "Straight_Hair": "Is the person's hair straight?",
    "Wavy_Hair": "Is the person's hair wavy?",
    "Wearing_Earrings": "Is the person wearing earrings?",
    "Wearing_Hat": "Is the person wearing a hat?",
    "Wearing_Lipstick": "Is the person wearing lipstick?",
    "Wearing_Necklace": "Is the person wearing a necklace?",
    "Wearing_Necktie": "Is the person wearing a necktie?",
    "Young": "Is the person young?",
}
"""The closed question about each of CelebA's attributes."""

_MORE: dict[str, str] = {
    # MAAD-Face (some LFW attributes have the same names)
    "middle_aged": "Is the person middle-aged?",
    "senior": "Is the person old?",
    "asian": "Does the person look Asian?",
    "white": "Does the person look white?",
    "black": "Does the person look black?",
    "shiny_skin": "Does the person have shiny skin?",
    "square_face": "Does the person have a square face?",
    "round_face": "Does the person have a round face?",
    "obstructed_forehead": "Is the person's forehead covered?",
    "fully_visible_forehead": "Is the person's forehead fully visible?",
    "brown_eyes": "Does the person have brown eyes?",
    "mouth_closed": "Is the person's mouth closed?",
    "no_eyewear": "Is the person without any eyewear?",
    # CelebV-HQ, appearance
    "blonde_hair": "Is the person's hair blond?",
    "long_hair": "Does the person have long hair?",
    "sunglasses": "Is the person wearing sunglasses?",
    "wearing_mask": "Is the person wearing a mask?",
    # CelebV-HQ, emotions
    "neutral": "Does the person look neutral?",
    "anger": "Does the person look angry?",
    "contempt": "Does the person look contemptuous?",
    "disgust": "Does the person look disgusted?",
    "happy": "Does the person look happy?",
    "fear": "Does the person look afraid?",
    "sadness": "Does the person look sad?",
    "surprise": "Does the person look surprised?",
    # LFW attributes
    "baby": "Is the person a baby?",
    "child": "Is the person a child?",
    "youth": "Is the person a youth?",
    "indian": "Does the person look Indian?",
    "frowning": "Is the person frowning?",
    "harsh_lighting": "Is the lighting harsh?",
    "soft_lighting": "Is the lighting soft?",
    "flash": "Was the picture taken with flash?",
    "outdoor": "Was the picture taken outdoors?",
    "color_photo": "Is it a color photo?",
    "posed_photo": "Is the person posing for the picture?",
    "curly_hair": "Is the person's hair curly?",
    "partially_visible_forehead": "Is the person's forehead partially visible?",
    "eyes_open": "Are the person's eyes open?",
    "mouth_wide_open": "Is the person's mouth wide open?",
    "teeth_not_visible": "Are the person's teeth hidden?",
    "round_jaw": "Does the person have a round jaw?",
    "attractive_man": "Would annotators call the person an attractive man?",
    "attractive_woman": "Would annotators call the person an attractive woman?",
    "strong_nose_mouth_lines": "Does the person have strong lines between nose and mouth?",
    "flushed_face": "Does the person have a flushed face?",
    # Made clips
    "nods": "Does the person nod?",
    "shakes_head": "Does the person shake the head?",
    "smile_starts": "Does the person start to smile?",
    "smile_fades": "Does the person stop smiling?",
    "blinks_once": "Does the person blink just once?",
    "blinks_twice": "Does the person blink twice?",
    "mouth_opens_faster": "Does the mouth open faster than it closes?",
    "mouth_closes_faster": "Does the mouth close faster than it opens?",
}

ACTIONS: dict[str, str] = {
    "blow": "blowing", "chew": "chewing", "close_eyes": "closing the eyes", "cough": "coughing", "cry": "crying",
    "drink": "drinking", "eat": "eating", "frown": "frowning", "gaze": "gazing", "glare": "glaring",
    "head_wagging": "wagging the head", "kiss": "kissing", "laugh": "laughing", "listen_to_music": "listening to music",
    "look_around": "looking around", "make_a_face": "making a face", "nod": "nodding",
    "play_instrument": "playing an instrument", "read": "reading", "shake_head": "shaking the head",
    "shout": "shouting", "sigh": "sighing", "sing": "singing", "sleep": "sleeping", "smile": "smiling",
    "smoke": "smoking", "sneer": "sneering", "sneeze": "sneezing", "sniff": "sniffing", "talk": "talking",
    "turn": "turning", "weep": "weeping", "whisper": "whispering", "wink": "winking", "yawn": "yawning",
}  # fmt: skip
"""CelebV-HQ's 35 actions as the person does them."""

_FRAMES = (
    "{Q} Answer yes or no.",
    "{Q} Reply with yes or no.",
    "Look closely: {q} Answer yes or no.",
    "Answer yes or no: {q}",
)
"""The wordings of a closed question: the first is that of question files."""

_CHOICE: dict[str, tuple[str, ...]] = {
    "expression": (
        "Which expression does the face show? Choose one: {options}.",
        "What does the face express? Answer with one of: {options}.",
    ),
    "age_group": (
        "What is the age group of the person? Choose one: {options}.",
        "How old does the person look? Answer with one of: {options}.",
    ),
    "race": (
        "What is the race of the person, as the annotators saw it? Choose one: {options}.",
        "Which race did annotators give the person? Answer with one of: {options}.",
    ),
    "gender": (
        "What is the gender of the person, as the annotators saw it? Choose one: {options}.",
        "Which gender did annotators give the person? Answer with one of: {options}.",
    ),
}
_ANY_CHOICE = ("What is the {column} of the person? Choose one: {options}.",)

LISTS = (
    "List the facial attributes that apply to the person, separated by commas.",
    "Which facial attributes does the person have? List them, separated by commas.",
)
LIST_OF = "List what applies to the person's {topic}, separated by commas. Choose from: {options}."
NOTHING = "None of them"

DESCRIPTIONS = (
    "Describe the person in the picture in detail.",
    "Give a detailed description of the person in the picture.",
    "What does the person in the picture look like? Describe it in detail.",
)


@functools.cache  # a few dozen names, asked for millions of times
def key_of(attribute: str) -> str:
    """``"5 o' Clock Shadow"``, ``"5_o_Clock_Shadow"`` -> ``"5_o_clock_shadow"``: data sets spell names differently."""
    return re.sub(r"[\s_-]+", "_", attribute.replace("'", "")).strip("_").lower()


_KNOWN: Mapping[str, str] = {
    **{key_of(name): text for name, text in QUESTIONS.items()},
    **_MORE,
    **{name: f"Is the person {doing}?" for name, doing in ACTIONS.items()},
}


def question(attribute: str) -> str:
    """The closed question about one attribute. Raises ``FaceDataError`` if there is no wording for it."""
    if key_of(attribute) not in _KNOWN:
        raise FaceDataError(unknown_name("attribute", attribute, QUESTIONS))
    return closed_wordings(attribute)[0]


def bare_question(attribute: str) -> str:
    """The closed question about an attribute of any data set, without a hint how to answer."""
    return _KNOWN.get(key_of(attribute)) or f"Does this apply to the person: {prompt_of(attribute)}?"


@functools.cache
def closed_wordings(attribute: str) -> tuple[str, ...]:
    """The wordings of the closed question about an attribute of any data set; the first is the plain one."""
    text = bare_question(attribute)
    inside = text[0].lower() + text[1:]
    return tuple(frame.format(Q=text, q=inside) for frame in _FRAMES)


def bare_choice(column: str) -> str:
    """The question about a closed-set label, without the options: the plain wording up to its question mark."""
    return _CHOICE.get(column, _ANY_CHOICE)[0].partition("?")[0].format(column=column.replace("_", " ")) + "?"


def choice_wordings(column: str, options: Sequence[str]) -> tuple[str, ...]:
    """The wordings of a multiple-choice question; ``options`` stand in them in the order given."""
    texts = _CHOICE.get(column, _ANY_CHOICE)
    return tuple(t.format(column=column.replace("_", " "), options=", ".join(options)) for t in texts)


def words(value: str) -> str:
    """A closed-set value as it is written in options and answers: ``Latino_Hispanic`` -> ``Latino Hispanic``."""
    return " ".join(value.replace("_", " ").split())
