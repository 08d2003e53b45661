"""Python's copy protocol for environments whose engine holds threads, locks and C pointers, which cannot be copied."""

from __future__ import annotations

from typing import Any

from mtrl.envs.settings import EnvSettings
from mtrl.envs.vector import TaskVectorEnv

_SPACES = (
    "single_observation_space",
    "single_action_space",
    "observation_space",
    "action_space",
)


class CopiedByState(TaskVectorEnv):
    """Base of backends with an exact state. A copy is built from the settings and then loads the state.

    ``copy.deepcopy`` and ``pickle`` (of multiprocessing, say) give an environment of its own, with the same trajectory
    from here on. The random states of the spaces are copied too, so ``action_space.sample()`` gives the same actions.
    A closed environment and one between ``step_async`` and ``step_wait`` raise SuiteError.

    A subclass has the constructor ``(suite, settings)``.
    """

    exact_state = True
    _settings: EnvSettings

    def __getstate__(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "settings": self._settings,
            "state": self.state_dict(),
            "spaces": {name: getattr(self, name) for name in _SPACES},
        }

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__init__(kept["suite"], kept["settings"])  # type: ignore[misc]
        self.load_state_dict(kept["state"])
        for name, space in kept["spaces"].items():
            setattr(self, name, space)
