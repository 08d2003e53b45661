"""The task-major vector environment, the only interface that agents, evaluator and trainer use.

Environment ``i`` belongs to task ``i // envs_per_task``; reshaping any array ``[num_envs, ...]`` to
``[num_tasks, envs_per_task, ...]`` is a view. Episodes end and restart inside one ``step``
(``AutoresetMode.SAME_STEP``): the returned observation is already the first one of the next episode and the true last
one is in ``info["final_obs"]``, so no artificial reset transition exists that could enter a buffer.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from mtrl.envs.errors import SuiteError
from mtrl.envs.seeding import check_seed
from mtrl.envs.settings import EnvSettings
from mtrl.envs.specs import Suite

if TYPE_CHECKING:
    import torch  # a backend without tensors must not wait for it

Info = dict[str, Any]


class TaskVectorEnv(VectorEnv):
    """Base of every backend.

    ``step`` returns ``(obs, reward, terminated, truncated, info)`` with shapes ``[num_envs, D]`` float32 (uint8 for
    MiniGrid), ``[num_envs]`` float64, ``[num_envs]`` bool, ``[num_envs]`` bool. ``info`` always holds

    * ``success``: bool ``[num_envs]``, success at this very step;
    * ``final_obs``: same shape and dtype as ``obs``; for environments whose episode ended in this step the true last
      observation, elsewhere equal to ``obs``. It is therefore always a valid ``next_obs``;
    * ``_final_obs``: bool ``[num_envs]``, where an episode ended in this step.

    Returned arrays are fresh copies that the caller owns. On a ``device`` they are tensors of the same shapes and
    types, rewards of float64 or float32, and so are actions; ``task_id``, what ``pause`` and ``hold`` take, frames and
    states are of numpy everywhere.

    Attributes:
        suite: the suite's specification.
        backend: name of the engine, written into every record.
        device: where the arrays of ``reset``, ``rebase`` and ``step`` live, and where actions are expected; None for
            numpy's.
        task_id: int64 ``[num_envs]``, the task of each environment.
        paused: bool ``[num_tasks]``, which tasks stand still, see ``pause``.
        exact_state: whether ``state_dict`` captures episodes in progress exactly. Where it is False, a checkpoint must
            be taken right after ``rebase`` (see there).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - gymnasium's own declaration
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["rgb_array"],
    }
    backend: str = ""
    device: torch.device | None = None
    exact_state: bool = False

    def __init__(
        self, suite: Suite, envs_per_task: int, observation_space: Space, action_space: Space
    ) -> None:
        self.suite = suite
        self.envs_per_task = envs_per_task
        self.num_tasks = suite.num_tasks
        self.num_envs = suite.num_tasks * envs_per_task
        self.task_id: NDArray[np.int64] = np.repeat(np.arange(suite.num_tasks), envs_per_task)
        self.paused: NDArray[np.bool_] = np.zeros(suite.num_tasks, np.bool_)
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, self.num_envs)
        self.action_space = batch_space(action_space, self.num_envs)

    def step(self, actions: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        self.step_async(actions)
        return self.step_wait()

    @abstractmethod
    def step_async(self, actions: NDArray) -> None:
        """Begin a step and return at once, so that the caller can compute in the meantime.

        The result of ``step_async`` followed by ``step_wait`` never depends on what happens in between.
        """

    @abstractmethod
    def step_wait(self) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        """Finish the step begun by ``step_async``."""

    def pause(self, tasks: NDArray[np.bool_]) -> None:
        """Pause the environments of some tasks, from the next step until the next call or ``reset``.

        Paused environments ignore their action and cost no time. They return their last observation, reward 0, no
        success and no end. Their episodes continue once the pause ends; ``rebase`` starts new ones as everywhere.

        Args:
            tasks: bool ``[num_tasks]``, True where a task is to stand still.

        Raises:
            SuiteError: another shape or type, a step under way, or a backend whose tasks can only step together.
        """
        raise SuiteError(f"pause: tasks of backend {self.backend!r} can only step together.")

    def _set_paused(self, tasks: NDArray[np.bool_]) -> None:
        """Check the argument of ``pause`` and keep it, for backends that offer it."""
        given = np.asarray(tasks)
        if given.shape != (self.num_tasks,) or given.dtype != np.bool_:
            raise SuiteError(
                f"pause: tasks must be bool of shape ({self.num_tasks},), not {given.dtype} of shape {given.shape}."
            )
        self.paused = given.copy()

    def start_content(self, index: int) -> bytes | None:
        """Bytes that identify the start of an environment's episode: equal for equal starts.

        To be asked right after ``reset``, ``rebase``, or the step in which the episode before ended. None where the
        backend cannot tell.
        """
        return None

    def hold(self, rows: NDArray[np.bool_]) -> None:
        """Let single environments stand still in the next step: reward 0, no end, the last observation again.

        Args:
            rows: bool ``[num_envs]``.

        Raises:
            SuiteError: a backend whose environments can only step together.
        """
        raise SuiteError(
            f"hold: environments of backend {self.backend!r} can only step together."
        )

    def frames(self, only: Sequence[int] | None = None) -> tuple[NDArray[np.uint8], ...]:
        """One RGB frame per environment, each in its own size; empty without a render mode.

        ``render`` gives them in one size, as gymnasium's and SB3's recorders need them.

        Args:
            only: draw these environments, and no others; drawing is slow.
        """
        rendered: Any = self.render()
        frames = tuple(rendered or ())
        return frames if only is None or not frames else tuple(frames[index] for index in only)

    @abstractmethod
    def rebase(self, boundary: int) -> NDArray:
        """Start fresh episodes everywhere from random streams that are a function of (seed, ``boundary``) alone.

        Backends that cannot save a running simulation are checkpointed right after this call, in interrupted and
        uninterrupted runs alike, so both continue identically. Returns the first observations ``[num_envs, D]``.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, NDArray]:
        """All state that affects the next steps, as plain arrays."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, NDArray]) -> None:
        """Continue from ``state_dict()`` of an environment built with the same arguments.

        Raises:
            SuiteError: the state belongs to another suite, size or backend.
        """


class Streams(Protocol):
    """Random streams that say what each environment plays in an episode, as a function of seed, boundary and episode.

    Attributes:
        seed, boundary: what the streams are named by, see ``TaskVectorEnv.rebase``.
        episode: int64 ``[num_envs]``, the episode being played, counted from the boundary; -1 before the first.
    """

    seed: int
    boundary: int
    episode: NDArray[np.int64]

    def restart(self, seed: int, boundary: int) -> None:
        """Begin the streams of (seed, boundary) anew, before their first episode."""

    def set_episode(self, episode: NDArray[np.int64]) -> None:
        """Go to the given episodes of the present streams."""


class EngineVectorEnv(TaskVectorEnv):
    """The state machine of every backend: the order of calls, pausing, seeding, and the saved state.

    A family and its engines fill the hooks: the methods below ``load_state_dict``.
    """

    def __init__(
        self,
        suite: Suite,
        settings: EnvSettings,
        streams: Streams,
        observation_space: Space,
        action_space: Space,
    ) -> None:
        super().__init__(suite, settings.envs_per_task, observation_space, action_space)
        self.render_mode = settings.render_mode
        self._settings = settings
        self._streams = streams
        self._running = False  # whether episodes are under way
        self._stepping = False  # whether a step is under way, between step_async and step_wait

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray, Info]:
        """Start the next episode everywhere; every task moves again.

        Args:
            seed: start all random streams anew, as in an environment made with this seed.
            options: not supported; must be None or empty.
        """
        self._check_idle("reset")
        if options:
            raise SuiteError(f"reset takes no options, but got {sorted(options)}.")
        self.pause(np.zeros(self.num_tasks, np.bool_))
        if seed is not None:
            self._reseed(check_seed("seed", seed))
        return self._start_episodes(), {}

    def rebase(self, boundary: int) -> NDArray:
        self._check_idle("rebase")
        self._streams.restart(self._streams.seed, check_seed("boundary", boundary))
        return self._start_episodes()

    def pause(self, tasks: NDArray[np.bool_]) -> None:
        self._check_idle("pause")
        self._set_paused(tasks)

    def step_async(self, actions: NDArray) -> None:
        self._check_idle("step_async")
        if not self._running:
            raise SuiteError(
                "Call reset or rebase before the first step, and rebase after loading a state."
            )
        checked = self._checked(actions)
        self._stepping = True
        self._begin(checked)

    def step_wait(self) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        if not self._stepping:
            raise SuiteError("step_wait without step_async.")
        self._stepping = False
        return self._finish()

    def state_dict(self) -> dict[str, NDArray]:
        self._check_idle("state_dict")
        return {
            "identity": np.frombuffer(json.dumps(self._identity()).encode(), np.uint8).copy(),
            "seed": np.array(self._streams.seed),
            "boundary": np.array(self._streams.boundary),
            "episode": self._streams.episode.copy(),
            "paused": self.paused.copy(),
        } | {name: array.copy() for name, array in self._kept().items()}

    def load_state_dict(self, state: Mapping[str, NDArray]) -> None:
        """Continue from a state: exactly where ``exact_state``, else if all episodes had just begun when it was taken.

        Otherwise ``rebase`` or ``reset`` must come before the next step.
        """
        self._check_idle("load_state_dict")
        self._check_state(state)
        self._streams.restart(int(state["seed"]), int(state["boundary"]))
        self._streams.set_episode(np.asarray(state["episode"]))
        for name, array in self._kept().items():
            array[...] = state[name]
        self._running = False
        self.pause(np.asarray(state["paused"]))
        self._continue(state)

    @abstractmethod
    def _checked(self, actions: NDArray) -> NDArray:
        """The actions as the engine takes them. Raises SuiteError for another shape or type, or impossible values."""

    @abstractmethod
    def _start_episodes(self) -> NDArray:
        """Start the streams' next episode everywhere, and set ``_running``. Returns the observations."""

    @abstractmethod
    def _begin(self, actions: NDArray) -> None:
        """Begin a step; paused environments stand still."""

    @abstractmethod
    def _finish(self) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        """Complete the step: what ``step`` returns."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """What an environment must have in common with one whose state it loads, as JSON values."""

    def _reseed(self, seed: int) -> None:
        """Start the random streams of ``seed`` anew."""
        self._streams.restart(seed, boundary=0)

    def _kept(self) -> dict[str, NDArray]:
        """Arrays that the next steps depend on, by name; a state holds copies of them, and is loaded into them."""
        return {}

    def _continue(self, state: Mapping[str, NDArray]) -> None:
        """Set ``_running`` after a state was loaded, and restore what follows from it."""
        self._running = bool((self._streams.episode >= 0).all())

    def _check_idle(self, method: str) -> None:
        if self.closed:
            raise SuiteError(f"{method} after close: the environment is closed.")
        if self._stepping:
            raise SuiteError(f"{method} between step_async and step_wait.")

    def _check_state(self, state: Mapping[str, NDArray]) -> None:
        kept = self._kept()
        expected = {"identity", "seed", "boundary", "episode", "paused", *kept}
        missing = sorted(expected - set(state))
        if missing:
            raise SuiteError(
                f"The state is of another environment: it lacks {', '.join(missing)}."
            )
        theirs = json.loads(np.asarray(state["identity"]).tobytes())
        for key, value in self._identity().items():
            if theirs.get(key) != value:
                raise SuiteError(
                    f"The state is of another environment: {key} is {theirs.get(key)!r}, here {value!r}."
                )
        for name, array in kept.items():
            shape = np.shape(state[name])
            if shape != array.shape:
                raise SuiteError(
                    f"The state is of another environment: {name} has shape {shape}, here {array.shape}."
                )
