"""The registry: exact names, no clashes, suggestions."""

from __future__ import annotations

import pytest

from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.registry import Registry, unknown_name


def filled() -> Registry[object]:
    registry: Registry[object] = Registry("animal")
    for name in ("zebra", "ant"):
        registry.register(name)(name.upper())
    return registry


def test_register_hands_back_what_it_files() -> None:
    registry: Registry[type] = Registry("kind")

    @registry.register("one")
    class One:
        pass

    assert registry["one"] is One


def test_behaves_as_a_sorted_collection_of_names() -> None:
    registry = filled()
    assert list(registry) == ["ant", "zebra"]
    assert len(registry) == 2 and "ant" in registry and "Ant" not in registry and 3 not in registry


def test_a_taken_name_is_refused_and_keeps_its_entry() -> None:
    registry = filled()
    with pytest.raises(ValueError, match="animal 'ant' is already registered by 'ANT'"):
        registry.register("ant")("other")
    assert registry["ant"] == "ANT"


def test_unknown_names_get_a_suggestion_and_the_list() -> None:
    with pytest.raises(FaceConfigError) as caught:
        filled()["zebar"]
    assert str(caught.value) == "unknown animal 'zebar'; did you mean 'zebra'? (known: ant, zebra)"


def test_no_suggestion_where_nothing_is_near() -> None:
    assert unknown_name("key", "qqq", iter(["b", "a"])) == "unknown key 'qqq' (known: a, b)"
