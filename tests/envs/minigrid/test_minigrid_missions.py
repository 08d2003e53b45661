import numpy as np
import pytest

from mtrl.envs import SuiteError
from mtrl.envs.minigrid.layout import ObsLayout, check_view_shapes
from mtrl.envs.minigrid.missions import NUM_TOKENS, VOCABULARY, encode_mission


def test_missions_are_tokens_then_padding():
    mission = "put the red ball next to the grey box"
    tokens = encode_mission(mission, 12)
    assert tokens.shape == (12,) and tokens.dtype == np.uint8
    assert [VOCABULARY[token - 1] for token in tokens[:9]] == mission.split()
    assert not tokens[9:].any()


def test_the_vocabulary_is_sorted_and_has_no_word_twice():
    assert list(VOCABULARY) == sorted(set(VOCABULARY)) and len(VOCABULARY) + 1 == NUM_TOKENS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: encode_mission("fetch a teal ball", 6),
            "Mission word 'teal' in 'fetch a teal ball' is unknown",
        ),
        (
            lambda: encode_mission("go to the red door", 4),
            "has 5 words, but missions here have at most 4",
        ),
        (
            lambda: ObsLayout(3).split(np.zeros((2, 148), np.uint8)),
            "have 151 bytes, but these have shape",
        ),
        (
            lambda: check_view_shapes({"a": (7, 7, 3), "b": (5, 5, 3)}),
            "Task 'b' observes .5, 5, 3., but all",
        ),
    ],
)
def test_bad_missions_and_shapes_are_named(call, message):
    with pytest.raises(SuiteError, match=message):
        call()


def test_an_observation_splits_into_its_parts():
    layout = ObsLayout(mission_words=4)
    obs = np.arange(2 * layout.num_bytes, dtype=np.uint16).reshape(2, -1)
    view, direction, mission = layout.split(obs)
    assert view.shape == (2, 7, 7, 3) and view[1, 0, 1, 2] == obs[1, 5]
    assert direction.tolist() == [147, 152 + 147] and np.array_equal(mission, obs[:, 148:])
    space = layout.space()
    assert space.shape == (152,) and space.dtype == np.uint8
    assert space.high[[0, 1, 2, 147, 148]].tolist() == [10, 5, 2, 3, NUM_TOKENS - 1]
