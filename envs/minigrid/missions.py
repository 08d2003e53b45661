"""Missions as token ids with one fixed vocabulary for every suite; 0 is padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.compiled import kernel
from mtrl.envs.errors import SuiteError
from mtrl.envs.minigrid.cells import (
    ARTICLE,
    ARTICLE_2,
    BALL,
    BOX,
    COLOR,
    COLOR_2,
    DOOR,
    KEY,
    PLACE,
    PREFIX,
    TYPE,
    TYPE_2,
)

VOCABULARY = (
    "a", "ball", "behind", "blue", "box", "door", "fetch", "front", "get", "go", "green", "grey", "in", "key", "left",
    "must", "near", "next", "object", "of", "on", "open", "pick", "purple", "put", "red", "right", "the", "to", "up",
    "yellow", "you", "your",
)  # fmt: skip
"""Words of every mission that varies between the levels of its task; word i has token i + 1."""

NUM_TOKENS = len(VOCABULARY) + 1
_TOKENS = {word: i + 1 for i, word in enumerate(VOCABULARY)}


def encode_mission(mission: str, length: int) -> NDArray[np.uint8]:
    """Token ids of ``mission``, uint8 ``[length]``.

    Raises:
        SuiteError: a word is not in the vocabulary, or there are more words than ``length``.
    """
    words = mission.split()
    unknown = [word for word in words if word not in _TOKENS]
    if unknown:
        raise SuiteError(
            f"Mission word {unknown[0]!r} in {mission!r} is unknown; known are: {', '.join(VOCABULARY)}."
        )
    if len(words) > length:
        raise SuiteError(
            f"Mission {mission!r} has {len(words)} words, but missions here have at most {length}."
        )
    tokens = np.zeros(length, np.uint8)
    tokens[: len(words)] = [_TOKENS[word] for word in words]
    return tokens


# A mission is: prefix, first description, and for two kinds a middle and a second description. A description is:
# article, color (or none), type, place (or none).
_PHRASES = (
    "get",
    "go get",
    "fetch",
    "go fetch",
    "you must fetch",
    "go to",
    "pick up",
    "open",
    "put",
    "put",
)
GET, GO_TO, PICK_UP, OPEN, PUT_NEAR, PUT_NEXT_TO = 0, 5, 6, 7, 8, 9
_MIDDLES = ("near", "next to")
_PLACES = ("on your left", "on your right", "in front of you", "behind you")
_TYPES = {0: "object", DOOR: "door", KEY: "key", BALL: "ball", BOX: "box"}

_PREFIX_TOKENS = np.stack([encode_mission(phrase, 3) for phrase in _PHRASES])
_MIDDLE_TOKENS = np.stack([encode_mission(phrase, 2) for phrase in _MIDDLES])
_PLACE_TOKENS = np.stack([encode_mission(phrase, 4) for phrase in _PLACES])
_TYPE_TOKENS = np.array(
    [_TOKENS[_TYPES.get(kind, "object")] for kind in range(BOX + 1)], np.uint8
)
_COLOR_TOKENS = np.array(
    [_TOKENS[color] for color in ("red", "green", "blue", "purple", "yellow", "grey")], np.uint8
)
_ARTICLE_TOKENS = np.array([_TOKENS["the"], _TOKENS["a"]], np.uint8)


@kernel
def _write_words(words: NDArray[np.uint8], out: NDArray[np.uint8], at: int) -> int:
    for word in words:
        if word != 0:
            out[at] = word
            at += 1
    return at


@kernel
def _write_description(
    article: int, color: int, kind: int, out: NDArray[np.uint8], at: int
) -> int:
    out[at] = _ARTICLE_TOKENS[article]
    at += 1
    if color >= 0:
        out[at] = _COLOR_TOKENS[color]
        at += 1
    out[at] = _TYPE_TOKENS[kind]
    return at + 1


@kernel
def write_mission(state: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """Write the tokens of the mission described by ``state`` to ``out``, padded with zeros."""
    prefix = state[PREFIX]
    at = _write_words(_PREFIX_TOKENS[prefix], out, 0)
    at = _write_description(state[ARTICLE], state[COLOR], state[TYPE], out, at)
    if state[PLACE] >= 0:
        at = _write_words(_PLACE_TOKENS[state[PLACE]], out, at)
    if prefix >= PUT_NEAR:
        at = _write_words(_MIDDLE_TOKENS[prefix - PUT_NEAR], out, at)
        at = _write_description(state[ARTICLE_2], state[COLOR_2], state[TYPE_2], out, at)
    out[at:] = 0


@kernel
def describe(
    state: NDArray[np.int64], prefix: int, article: int, color: int, kind: int
) -> None:
    """Set a mission of one description: article 0 "the", 1 "a"; color -1 for none; kind 0 for "object"."""
    state[PREFIX] = prefix
    state[ARTICLE] = article
    state[COLOR] = color
    state[TYPE] = kind
    state[PLACE] = -1
