from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from mtrl.agents import AgentError
from mtrl.agents.settings import (
    Count,
    Number,
    Share,
    Whole,
    describe,
    settings,
    settings_of,
    values_of,
)
from mtrl.envs.errors import nearest
from mtrl.settings.config import flatten


@settings
class Inner:
    rate: float = 0.5
    """How fast."""
    sizes: tuple[int, ...] = (1, 2)


@settings
class Wider(Inner):
    width: Share = 0.5
    """How wide."""


@settings
class Outer:
    name: str
    """What it is called,
    over two lines."""
    count: int | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)


def read(value: Any, hint: Any) -> Any:
    """What a setting ``key`` of type ``hint`` makes of ``value``, as text or from YAML."""
    fields = {"__annotations__": {"key": hint}, "__module__": __name__}
    cls: Any = settings(type("One", (), fields))
    return cls(key=settings_of(cls)["key"].read(value)).key


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        ("3", int, 3),
        ("20_000", int, 20_000),
        ("2e6", Whole, 2_000_000),
        ("-1", int, -1),
        ("1e-3", float, 0.001),
        (3, float, 3.0),
        ("true", bool, True),
        ("off", bool, False),
        (True, bool, True),
        ("none", int | None, None),
        ("null", str | None, None),
        (None, float | None, None),
        ("7", int | None, 7),
        ("tanh", Literal["relu", "tanh"], "tanh"),
        ("auto", float | Literal["auto"], "auto"),
        ("400, 300", tuple[int, ...], (400, 300)),
        ("[400,300]", tuple[int, ...], (400, 300)),
        ([400, 300], tuple[int, ...], (400, 300)),
        ("", tuple[int, ...], ()),
        ("400,300", tuple[int, ...] | None, (400, 300)),
    ],
)
def test_values_are_read(value: Any, hint: Any, expected: Any) -> None:
    result = read(value, hint)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        ("x", int, "key: 'x' is not a whole number"),
        ("1.5", int, "key: '1.5' is not a whole number"),
        (1.5, int, "key: 1.5 is not a whole number"),
        ("1e-3", Whole, "key: '1e-3' is not a whole number"),
        ("true", Whole, "key: 'true' is not a whole number"),
        (True, Whole, "key: True is not a whole number"),
        (True, Count | None, "key: True is not a whole number of at least 1 or none"),
        (True, Number, "key: True is not a number"),
        (float("inf"), float, "key: inf is not a finite number"),
        (0, Count, "key: 0 is not a whole number of at least 1"),
        ("1.5", Share, "key: '1.5' is not a number of at least 0 and at most 1"),
        (
            "-2",
            Annotated[Whole, Field(ge=-1)],
            "key: '-2' is not a whole number of at least -1",
        ),
        ("3,0", tuple[Count, ...], "key: '0' is not a whole number of at least 1"),
        ("3,x", tuple[Count, ...] | None, "key: 'x' is not a whole number of at least 1"),
        ("maybe", bool, "true or false"),
        (2, bool, "true or false"),
        (3, str, "a text"),
        ("sigmoid", Literal["relu", "tanh"], "use one of relu, tanh"),
        ("x", int | None, "a whole number or none"),
        ("1,x", tuple[int, ...], "key: 'x' is not a whole number"),
        (3, tuple[int, ...], "key: 3 is not a comma-separated list, each a whole number"),
        (None, int, "key: None is not a whole number"),
    ],
)
def test_a_wrong_value_names_key_value_and_what_is_allowed(
    value: Any, hint: Any, words: str
) -> None:
    with pytest.raises(AgentError) as caught:
        read(value, hint)
    assert words in str(caught.value)


def test_values_flat_and_nested() -> None:
    outer = Outer("a", 3, Inner(0.1, (5,)))
    flat = flatten(values_of(outer))
    assert flat == {"name": "a", "count": 3, "inner.rate": 0.1, "inner.sizes": [5]}
    assert list(settings_of(Outer)) == list(flat)
    assert Outer(**values_of(outer)) == outer


def test_settings_carry_their_docs_inherited_ones_too() -> None:
    known = settings_of(Outer)
    assert known["inner.rate"].about == "How fast."
    assert " ".join(known["name"].about.split()) == "What it is called, over two lines."
    wider = settings_of(Wider)
    assert [wider[name].about for name in wider] == ["How fast.", "", "How wide."]


def test_a_missing_and_an_unknown_value() -> None:
    with pytest.raises(AgentError, match="name: no value given, and there is no default"):
        Outer()  # type: ignore[call-arg]
    with pytest.raises(AgentError, match=r"nmae: unknown setting; did you mean 'name'\?"):
        Outer("a", nmae="b")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("rate", "inner.rate"),
        ("inner.size", "inner.sizes"),
        ("cuont", "count"),
        ("size", "inner.sizes"),
        ("zzz", None),
    ],
)
def test_nearest(key: str, expected: str | None) -> None:
    assert nearest(key, settings_of(Outer)) == expected


def test_what_is_not_a_setting_at_all_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        AgentError, match=r"inner: 3 is not allowed; input should be a dictionary"
    ):
        Outer("a", inner=3)  # type: ignore[arg-type]
    with pytest.raises(
        AgentError, match=r"inner\.rat: unknown setting; did you mean 'inner.rate'"
    ):
        Outer("a", inner={"rat": 3})  # type: ignore[arg-type]
    with pytest.raises(
        AgentError, match=r"3: 8 is not allowed; unexpected positional argument"
    ):
        Outer("a", 3, Inner(), 8)  # type: ignore[call-arg]


@settings
class Alternatives:
    rate: Literal["auto"] | Count = "auto"


def test_alternatives_in_words() -> None:
    assert (
        describe(settings_of(Alternatives)["rate"].hint)
        == "auto or a whole number of at least 1"
    )
