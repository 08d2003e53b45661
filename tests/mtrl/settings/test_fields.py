from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest

from mtrl.agents.settings import describe
from mtrl.envs.errors import nearest
from mtrl.errors import ConfigError
from mtrl.settings.fields import build, coerce, flatten, settings_of


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    """How fast."""
    sizes: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    """What it is called,
    over two lines."""
    count: int | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        ("3", int, 3),
        ("20_000", int, 20_000),
        ("2e6", int, 2_000_000),
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
        ("2", Literal[1, 2], 2),
        ("auto", float | Literal["auto"], "auto"),
        ("400, 300", tuple[int, ...], (400, 300)),
        ("[400,300]", tuple[int, ...], (400, 300)),
        ([400, 300], tuple[int, ...], (400, 300)),
        ("", tuple[int, ...], ()),
        ("1,a", tuple[int, str], (1, "a")),
    ],
)
def test_coerce_reads(value: Any, hint: Any, expected: Any) -> None:
    result = coerce("key", value, hint)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        ("x", int, "key: 'x' is not a whole number"),
        ("1.5", int, "a whole number"),
        (1.5, int, "key: 1.5 is not a whole number"),
        (True, int, "a whole number"),
        (True, float, "a number"),
        ("maybe", bool, "true or false"),
        (2, bool, "true or false"),
        (3, str, "a text"),
        ("sigmoid", Literal["relu", "tanh"], "use one of relu, tanh"),
        ("x", int | None, "a whole number or none"),
        ("1,x", tuple[int, ...], "a comma-separated list, each a whole number"),
        ("1,2,3", tuple[int, int], "list"),
        (None, int, "key: None is not a whole number"),
    ],
)
def test_coerce_names_key_value_and_choice(value: Any, hint: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        coerce("key", value, hint)
    assert words in str(caught.value)


def test_flatten_and_build_are_inverse() -> None:
    outer = Outer("a", 3, Inner(0.1, (5,)))
    flat = flatten(outer)
    assert flat == {"name": "a", "count": 3, "inner.rate": 0.1, "inner.sizes": [5]}
    settings = settings_of(Outer)
    assert list(settings) == list(flat)
    assert (
        build(Outer, {key: coerce(key, value, settings[key].hint) for key, value in flat.items()})
        == outer
    )


def test_settings_carry_default_and_docs() -> None:
    settings = settings_of(Outer)
    assert settings["inner.rate"].doc == "How fast."
    assert settings["name"].doc == "What it is called, over two lines."
    assert settings["inner.sizes"].default == (1, 2)


def test_build_without_a_required_value() -> None:
    with pytest.raises(ConfigError, match="name: no value given"):
        build(Outer, {})


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


def test_describe_single_literal() -> None:
    assert describe(Literal["auto"] | int) == "auto or a whole number"
