"""The checked settings of a vector environment."""

from __future__ import annotations

from dataclasses import dataclass

from mtrl.envs.errors import SuiteError, as_integer


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
    camera: str | None = None
    frame_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_choice("goals", self.goals, ("random", "cycle"))
        _check_choice("render_mode", self.render_mode, (None, "rgb_array"))
        self._check_frame_size()
        self._check_count("envs_per_task", least=1)
        self._check_count("num_workers", least=0)
        self._check_count("num_threads", least=1)

    def _check_frame_size(self) -> None:
        size = self.frame_size
        if size is None:
            return
        sides = [as_integer(side) for side in size]
        if len(sides) != 2 or any(side is None or side < 1 for side in sides):
            raise SuiteError(f"frame_size must be width and height in pixels, not {size!r}.")

    def _check_count(self, name: str, least: int) -> None:
        """Stores a count as an int, so that a NumPy integer gives the same record and JSON."""
        given = getattr(self, name)
        if given is None and name != "envs_per_task":
            return
        count = as_integer(given)
        if count is None or count < least:
            raise SuiteError(f"{name} must be an integer of at least {least}, not {given!r}.")
        object.__setattr__(self, name, count)


def _check_choice(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise SuiteError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}."
        )
