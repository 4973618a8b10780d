"""Rules about attributes as people write them: one rule, what it means, a file of rules, the check of their names."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from .errors import FaceDataError
from .registry import unknown_name

Kind = Literal["implication", "exclusion", "at_most_one", "at_least_one", "exactly_one"]
Joint = Literal["all", "any"]
SignedName = tuple[str, bool]
"""An attribute and whether it must be present (True) or absent (False)."""
Clause = tuple[SignedName, ...]
"""Holds if at least one of its literals does."""

_KEYS = ("kind", "if", "then", "of", "group", "weight", "source", "description")
_FILE_KEYS = ("description", "source", "rules")
_LONGEST = 200  # characters of a name: what is longer is no name, and floods messages
_BUILTIN = Path(__file__).parent / "knowledge" / "rules"


@dataclass(frozen=True)
class Rule:
    """One deterministic relation between attributes (the kinds: our default, the paper's are not readable).

    Attributes are named by literals: ``"Bald"``, or ``"not Bald"`` (also ``"!Bald"``) for its absence. No
    attribute may occur twice in a rule.

    - ``implication``: if all (``if_joint="any"``: any) of ``if_`` hold, at least one (``then_joint="all"``: each)
      of ``then`` holds.
    - ``exclusion`` and ``at_most_one``: at most one of ``of`` holds (two or more literals).
    - ``at_least_one``: at least one of ``of`` holds; ``exactly_one``: one, and no other (two or more).

    ``group`` names rules that are switched off together, ``weight`` in 0..1 scales the loss, ``source`` says
    where the rule comes from, ``description`` what it is about. Raises ``FaceDataError`` for anything else.
    """

    kind: Kind
    if_: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    group: str = ""
    weight: float = 1.0
    source: str = ""
    description: str = ""
    if_joint: Joint = "all"
    then_joint: Joint = "any"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise FaceDataError(unknown_name("kind of rule", _short(self.kind), get_args(Kind)))
        for field in ("if_", "then", "of"):
            object.__setattr__(self, field, tuple(canonical(literal) for literal in getattr(self, field)))
        self._check_parts()
        names = self.attributes()
        if len(set(names)) < len(names):
            raise FaceDataError(f"an attribute occurs twice in {self.text()!r}")
        number = isinstance(self.weight, (int, float)) and not isinstance(self.weight, bool)
        if not number or not 0.0 <= self.weight <= 1.0:
            raise FaceDataError(f"weight is {reprlib.repr(self.weight)}; expected a number from 0 to 1")
        for field in ("group", "source", "description"):
            if not isinstance(getattr(self, field), str):
                raise FaceDataError(f"{field} is {reprlib.repr(getattr(self, field))}; expected text")

    def _check_parts(self) -> None:
        if self.if_joint not in get_args(Joint) or self.then_joint not in get_args(Joint):
            raise FaceDataError(f"'if' and 'then' join by all or any, not {self.if_joint!r}, {self.then_joint!r}")
        if len(self.if_) <= 1:  # one literal is all and any of itself: one way to write it
            object.__setattr__(self, "if_joint", "all")
        if len(self.then) <= 1:
            object.__setattr__(self, "then_joint", "any")
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
            words = {"all": " and ", "any": " or "}
            return f"{words[self.if_joint].join(self.if_)} => {words[self.then_joint].join(self.then)}"
        if self.kind == "exclusion" and len(self.of) == 2:
            return f"not both {self.of[0]} and {self.of[1]}"
        number = {"at_least_one": "at least one", "exactly_one": "exactly one"}.get(self.kind, "at most one")
        return f"{number} of {{{', '.join(self.of)}}}"

    def clauses(self) -> tuple[Clause, ...]:
        """The rule in conjunctive normal form: it holds where every clause does. Everything reads rules so."""
        if self.kind == "implication":
            unless = _joined(map(_negated, self.if_), "any" if self.if_joint == "all" else "all")
            return tuple((*a, *b) for a in unless for b in _joined(map(signed, self.then), self.then_joint))
        some = _joined(map(signed, self.of), "any")
        pairs = tuple(itertools.combinations(map(_negated, self.of), 2))
        return {"at_least_one": some, "exactly_one": (*some, *pairs)}.get(self.kind, pairs)

    def antecedents(self) -> tuple[tuple[Clause, ...], ...]:
        """Where the rule applies, each in conjunctive normal form; of two, the one that holds in fewer rows counts.

        An implication applies where its ``if`` holds; at most one of some, where at least one holds. A pair is two
        implications, A => not B and B => not A (or not A => B, for at least one), and the rarer side is the worse of
        them: so no rule looks better for rows in which it cannot be broken. Any other rule applies everywhere.
        """
        if self.kind == "implication":
            return (_joined(map(signed, self.if_), self.if_joint),)
        if self.kind == "exactly_one" or (self.kind == "at_least_one" and len(self.of) != 2):
            return ((),)
        if len(self.of) > 2:
            return (_joined(map(signed, self.of), "any"),)
        return tuple(((literal,),) for literal in map(_negated if self.kind == "at_least_one" else signed, self.of))

    def to_dict(self) -> dict[str, Any]:
        """A JSON object with the keys kind, if, then, of, group, weight, source, description, without empty ones."""
        if_ = {"any": list(self.if_)} if self.if_joint == "any" else list(self.if_)
        then = {"all": list(self.then)} if self.then_joint == "all" else list(self.then)
        values = (self.kind, if_, then, list(self.of), self.group, self.weight, self.source, self.description)
        return {key: value for key, value in zip(_KEYS, values, strict=True) if value not in ([], "")}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rule:
        """The inverse of ``to_dict``.

        A single literal may stand without a list, and an implication without its ``kind``. Raises
        ``FaceDataError`` for unknown keys and wrong values.
        """
        if not isinstance(data, Mapping):
            raise FaceDataError(f"{reprlib.repr(data)} is not a rule; expected keys such as 'if' and 'then'")
        for key in data:
            if key not in _KEYS:
                raise FaceDataError(unknown_name("key", _short(key), _KEYS))
        if "kind" not in data and "if" not in data:
            raise FaceDataError(f"'kind' is missing (one of: {', '.join(get_args(Kind))})")
        if_joint, if_ = _side(data.get("if", ()), "if", "all")
        then_joint, then = _side(data.get("then", ()), "then", "any")
        rest = {key: data[key] for key in ("group", "weight", "source", "description") if key in data}
        of = _as_tuple(data.get("of", ()), "of")
        return cls(data.get("kind", "implication"), if_, then, of, if_joint=if_joint, then_joint=then_joint, **rest)


def canonical(literal: Any) -> str:
    """The one way to write a literal: ``"Bald"``, ``"not Bald"``. Raises ``FaceDataError`` for what is none."""
    if not isinstance(literal, str) or len(literal) > _LONGEST:
        raise FaceDataError(f"{reprlib.repr(literal)} is not an attribute name")
    text = " ".join(literal.split())
    negative = text.startswith(("!", "not "))
    name = text.removeprefix("!").removeprefix("not ").strip() if negative else text
    if not name or name.startswith(("!", "not ")):
        raise FaceDataError(f"{literal!r} is not an attribute name, nor one with a single 'not' before it")
    return f"not {name}" if negative else name


def signed(literal: str) -> SignedName:
    """``"Bald"`` -> ``("Bald", True)``; ``"not Bald"`` -> ``("Bald", False)``."""
    return (literal[4:], False) if literal.startswith("not ") else (literal, True)


def load_rules(path_or_builtin_name: str | Path) -> list[Rule]:
    """Read a YAML file of rules, or the built-in one of that name (``builtin_rules``).

    The file is a mapping with ``rules``, a list of objects with the keys of ``Rule.to_dict``, and optionally
    ``description`` and ``source``, which is that of every rule without one. Raises ``FaceDataError`` with the
    file and, where it applies, the number of the rule (from 1).
    """
    path = _rule_file(path_or_builtin_name)
    data = _read_yaml(path)
    if not isinstance(data, dict) or not isinstance(data.get("rules"), list):
        raise FaceDataError(f"{path}: expected a mapping with the key 'rules' and a list under it")
    for key in data:
        if key not in _FILE_KEYS:
            raise FaceDataError(f"{path}: {unknown_name('key', _short(key), _FILE_KEYS)}")
    source = data.get("source", "")
    rules = []
    for number, item in enumerate(data["rules"], start=1):
        try:
            rules.append(Rule.from_dict({"source": source, **item} if isinstance(item, dict) else item))
        except FaceDataError as error:
            raise FaceDataError(f"{path}: rule {number}: {error}") from error
    return rules


def dump_rules(rules: Iterable[Rule], description: str = "") -> str:
    """The text of a YAML file that ``load_rules`` reads: one rule a line."""
    lines = [f"description: {_flow(description)}"] if description else []
    lines += ["rules:" if (items := [_flow(rule.to_dict()) for rule in rules]) else "rules: []"]
    return "\n".join([*lines, *(f"  - {item}" for item in items)]) + "\n"


def builtin_rules() -> dict[str, Path]:
    """The built-in rule files by name."""
    return {path.stem: path for path in sorted(_BUILTIN.glob("*.yaml"))}


def check_rules(rules: Iterable[Rule], vocabulary: Sequence[str]) -> None:
    """Raise ``FaceDataError`` if a rule names an attribute that is not in the vocabulary."""
    known = set(vocabulary)
    for rule in rules:
        for name in rule.attributes():
            if name not in known:
                raise FaceDataError(f"rule {rule.text()!r}: {unknown_name('attribute', name, vocabulary)}")


def _flow(value: Any) -> str:
    """One line of YAML, whatever the length."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def _rule_file(path_or_name: str | Path) -> Path:
    builtin = builtin_rules()
    if str(path_or_name) in builtin:
        return builtin[str(path_or_name)]
    path = Path(path_or_name)
    if not path.is_file():
        raise FaceDataError(f"{path}: {unknown_name('rule file', str(path_or_name), builtin)}")
    return path


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FaceDataError(f"{path}: cannot read the rule file: {error}") from error
    except Exception as error:  # PyYAML lets KeyError, AttributeError, RecursionError and more out of bad scalars
        hint = "; write a negation as 'not Name', or quote \"!Name\"" if "tag" in str(error) else ""
        raise FaceDataError(f"{path}: not valid YAML: {error or type(error).__name__}{hint}") from error


def _negated(literal: str) -> SignedName:
    name, positive = signed(literal)
    return name, not positive


def _joined(literals: Iterable[SignedName], joint: Joint) -> tuple[Clause, ...]:
    """Any of the literals: one clause. All of them: one clause each."""
    return (tuple(literals),) if joint == "any" else tuple((literal,) for literal in literals)


def _side(value: Any, key: str, default: Joint) -> tuple[Joint, tuple[Any, ...]]:
    """``[A, B]``, ``{any: [A, B]}`` or ``{all: [A, B]}`` as how the literals join and the literals."""
    if not isinstance(value, Mapping):
        return default, _as_tuple(value, key)
    if len(value) != 1 or (joint := next(iter(value))) not in get_args(Joint):
        raise FaceDataError(f"{key!r} is {reprlib.repr(value)}; expected {{all: [...]}} or {{any: [...]}}")
    return joint, _as_tuple(value[joint], f"{key}: {joint}")


def _short(name: Any) -> str:
    return name if isinstance(name, str) else reprlib.repr(name)


def _as_tuple(value: Any, key: str) -> tuple[Any, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        return tuple(value)
    raise FaceDataError(f"{key!r} is {reprlib.repr(value)}; expected an attribute name or a list of them")
