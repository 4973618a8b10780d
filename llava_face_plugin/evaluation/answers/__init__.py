"""Strict parsers of a model's answer to a closed question: one value, or unparsed. Nothing is guessed."""

from .choice import parse_choice
from .labels import parse_labels
from .number import parse_number
from .parsed import Parsed
from .yes_no import parse_yes_no

__all__ = ["Parsed", "parse_choice", "parse_labels", "parse_number", "parse_yes_no"]
