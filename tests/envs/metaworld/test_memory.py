"""Preparing goals and resets leaves no stock environment behind."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from mtrl.envs.metaworld import goals
from mtrl.envs.metaworld.native import prepare
from mtrl.envs.metaworld.native.tasks import TASKS


def _alive() -> int:
    return sum(issubclass(type(each), SawyerXYZEnv) for each in gc.get_objects())


def test_drawing_goals_leaves_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goals, "NUM_GOALS", 2)
    before = _alive()
    assert goals._draw(("reach-v3",), 7)[0].shape == (2, 6)
    assert _alive() == before


def test_making_resets_leaves_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare.store, "save", lambda name, content: None)
    job = prepare._Job(TASKS["reach-v3"], np.array([[0.0, 0.6, 0.02, 0.1, 0.8, 0.2]]))
    before = _alive()
    job.make(lambda: None)
    assert job.result().resets[2].shape == (1, 39)
    assert _alive() == before
