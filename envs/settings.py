"""The checked settings of a vector environment."""

from __future__ import annotations

from dataclasses import dataclass

from mtrl.envs.specs import SuiteError


@dataclass(frozen=True)
class EnvSettings:
    """The arguments of ``make_vec``, checked; see there."""

    envs_per_task: int = 1
    seed: int = 0
    one_hot: bool = False
    goals: str = "random"
    goal_seed: int | None = None
    stagger: bool = False
    num_workers: int | None = None
    num_threads: int | None = None
    render_mode: str | None = None

    def __post_init__(self) -> None:
        _check_choice("goals", self.goals, ("random", "cycle"))
        _check_choice("render_mode", self.render_mode, (None, "rgb_array"))
        _check_count("envs_per_task", self.envs_per_task, least=1)
        for name, least in (("num_workers", 0), ("num_threads", 1)):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name), least)


def _check_choice(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise SuiteError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SuiteError(f"{name} must be an integer of at least {least}, not {value!r}.")
