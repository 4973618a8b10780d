"""Rules about attributes as people write them: one rule, a file of rules, the check of their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from .errors import FaceDataError
from .registry import unknown_name

Kind = Literal["implication", "exclusion", "at_most_one", "at_least_one"]
SignedName = tuple[str, bool]
"""An attribute and whether it must be present (True) or absent (False)."""

_KEYS = ("kind", "if", "then", "of", "group", "weight", "source")
_BUILTIN = Path(__file__).parent / "knowledge" / "rules"


@dataclass(frozen=True)
class Rule:
    """One deterministic relation between attributes (the kinds: our default, the paper's are not readable).

    Attributes are named by literals: ``"Bald"``, or ``"not Bald"`` (also ``"!Bald"``) for its absence. No
    attribute may occur twice in a rule.

    - ``implication``: if all of ``if_`` hold, at least one of ``then`` holds.
    - ``exclusion`` and ``at_most_one``: at most one of ``of`` holds (two or more literals).
    - ``at_least_one``: at least one of ``of`` holds.

    ``group`` names rules that are switched off together, ``weight`` in 0..1 scales the loss, ``source`` says
    where the rule comes from. Raises ``FaceDataError`` for anything else.
    """

    kind: Kind
    if_: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    group: str = ""
    weight: float = 1.0
    source: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise FaceDataError(unknown_name("kind of rule", str(self.kind), get_args(Kind)))
        for field in ("if_", "then", "of"):
            object.__setattr__(self, field, tuple(_canonical(literal) for literal in getattr(self, field)))
        self._check_parts()
        names = self.attributes()
        if len(set(names)) < len(names):
            raise FaceDataError(f"an attribute occurs twice in {self.text()!r}")
        number = isinstance(self.weight, (int, float)) and not isinstance(self.weight, bool)
        if not number or not 0.0 <= self.weight <= 1.0:
            raise FaceDataError(f"weight is {self.weight!r}; expected a number from 0 to 1")
        for field in ("group", "source"):
            if not isinstance(getattr(self, field), str):
                raise FaceDataError(f"{field} is {getattr(self, field)!r}; expected text")

    def _check_parts(self) -> None:
        if self.kind == "implication":
            if not self.if_ or not self.then or self.of:
                raise FaceDataError("an implication needs 'if' and 'then', and no 'of'")
        elif self.if_ or self.then or len(self.of) < (1 if self.kind == "at_least_one" else 2):
            least = "one attribute" if self.kind == "at_least_one" else "two attributes"
            raise FaceDataError(f"{self.kind} needs 'of' with at least {least}, and no 'if' or 'then'")

    def attributes(self) -> tuple[str, ...]:
        """The names of the rule's attributes, in the order written."""
        return tuple(signed(literal)[0] for literal in (*self.if_, *self.then, *self.of))

    def text(self) -> str:
        """One readable line, such as ``"Goatee => Male"`` or ``"at least one of {Bald, Bangs}"``."""
        if self.kind == "implication":
            return f"{' and '.join(self.if_)} => {' or '.join(self.then)}"
        if self.kind == "exclusion" and len(self.of) == 2:
            return f"not both {self.of[0]} and {self.of[1]}"
        return f"{'at least' if self.kind == 'at_least_one' else 'at most'} one of {{{', '.join(self.of)}}}"

    def clause(self) -> tuple[SignedName, ...] | None:
        """The literals of which at least one must hold, or None if the rule is not one such clause."""
        if self.kind == "implication":
            return (*(_negated(literal) for literal in self.if_), *(signed(literal) for literal in self.then))
        if self.kind == "at_least_one":
            return tuple(signed(literal) for literal in self.of)
        return tuple(_negated(literal) for literal in self.of) if len(self.of) == 2 else None

    def to_dict(self) -> dict[str, Any]:
        """A JSON object with the keys kind, if, then, of, group, weight, source; empty parts are left out."""
        parts = (list(self.if_), list(self.then), list(self.of))
        values = (self.kind, *parts, self.group, self.weight, self.source)
        return {key: value for key, value in zip(_KEYS, values, strict=True) if value not in ([], "")}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rule:
        """The inverse of ``to_dict``.

        A single literal may stand without a list, and an implication without its ``kind``. Raises
        ``FaceDataError`` for unknown keys and wrong values.
        """
        if not isinstance(data, Mapping):
            raise FaceDataError(f"{data!r} is not a rule; expected keys such as 'if' and 'then'")
        for key in data:
            if key not in _KEYS:
                raise FaceDataError(unknown_name("key", str(key), _KEYS))
        if "kind" not in data and "if" not in data:
            raise FaceDataError(f"'kind' is missing (one of: {', '.join(get_args(Kind))})")
        return cls(
            kind=data.get("kind", "implication"),
            if_=_as_tuple(data.get("if", ()), "if"),
            then=_as_tuple(data.get("then", ()), "then"),
            of=_as_tuple(data.get("of", ()), "of"),
            group=data.get("group", ""),
            weight=data.get("weight", 1.0),
            source=data.get("source", ""),
        )


def signed(literal: str) -> SignedName:
    """``"Bald"`` -> ``("Bald", True)``; ``"not Bald"`` -> ``("Bald", False)``."""
    return (literal[4:], False) if literal.startswith("not ") else (literal, True)


def load_rules(path_or_builtin_name: str | Path) -> list[Rule]:
    """Read a YAML file of rules, or the built-in one of that name (``"celeba"``, ``"made"``).

    The file is a mapping with ``rules``, a list of objects with the keys of ``Rule.to_dict``, and optionally
    ``description``. Raises ``FaceDataError`` with the file and, where it applies, the number of the rule
    (from 1).
    """
    path = _rule_file(path_or_builtin_name)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FaceDataError(f"{path}: cannot read the rule file: {error}") from error
    except yaml.YAMLError as error:
        hint = "; write a negation as 'not Name', or quote \"!Name\"" if "tag" in str(error) else ""
        raise FaceDataError(f"{path}: not valid YAML: {error}{hint}") from error
    if not isinstance(data, dict) or not isinstance(data.get("rules"), list):
        raise FaceDataError(f"{path}: expected a mapping with the key 'rules' and a list under it")
    for key in data:
        if key not in ("rules", "description"):
            raise FaceDataError(f"{path}: {unknown_name('key', str(key), ('rules', 'description'))}")
    rules = []
    for number, item in enumerate(data["rules"], start=1):
        try:
            rules.append(Rule.from_dict(item))
        except FaceDataError as error:
            raise FaceDataError(f"{path}: rule {number}: {error}") from error
    return rules


def check_rules(rules: Iterable[Rule], vocabulary: Sequence[str]) -> None:
    """Raise ``FaceDataError`` if a rule names an attribute that is not in the vocabulary."""
    known = set(vocabulary)
    for rule in rules:
        for name in rule.attributes():
            if name not in known:
                raise FaceDataError(f"rule {rule.text()!r}: {unknown_name('attribute', name, vocabulary)}")


def _rule_file(path_or_name: str | Path) -> Path:
    builtin = {path.stem: path for path in _BUILTIN.glob("*.yaml")}
    if str(path_or_name) in builtin:
        return builtin[str(path_or_name)]
    path = Path(path_or_name)
    if not path.is_file():
        raise FaceDataError(f"{path}: {unknown_name('rule file', str(path_or_name), builtin)}")
    return path


def _canonical(literal: Any) -> str:
    if not isinstance(literal, str):
        raise FaceDataError(f"{literal!r} is not an attribute name")
    text = " ".join(literal.split())
    negative = text.startswith(("!", "not "))
    name = text.removeprefix("!").removeprefix("not ").strip() if negative else text
    if not name or name.startswith(("!", "not ")):
        raise FaceDataError(f"{literal!r} is not an attribute name, nor one with a single 'not' before it")
    return f"not {name}" if negative else name


def _negated(literal: str) -> SignedName:
    name, positive = signed(literal)
    return name, not positive


def _as_tuple(value: Any, key: str) -> tuple[Any, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        return tuple(value)
    raise FaceDataError(f"{key!r} is {value!r}; expected an attribute name or a list of them")
