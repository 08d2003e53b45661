"""The verbs every agent has, and the one training loop all of them share."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from mtrl.agents.callbacks import Hooks, LearningStopped, Recorder, sort_callbacks
from mtrl.agents.errors import AgentError, DivergedError, unknown
from mtrl.agents.files import read_state, split_state, write_state
from mtrl.agents.networks.grid import GridLayout
from mtrl.agents.settings import AgentConfig as AgentConfig
from mtrl.agents.settings import values_of
from mtrl.envs.errors import as_integer
from mtrl.envs.vector import TaskVectorEnv

State = dict[str, Any]
MAX_SEED = 2**32 - 1  # the largest that environments take, which agents reset with their own seed


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What an agent needs to know of an environment to build its networks.

    Attributes:
        action_low, action_high: bounds of continuous actions; empty for discrete ones.
        num_actions: of each task, for discrete actions; a task may have fewer than the suite, the surplus is masked.
        grid: for observations of categories, the fields of their ``GridLayout``; empty for numbers.
    """

    suite: str
    task_names: tuple[str, ...]
    obs_dim: int
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    num_actions: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()

    @property
    def layout(self) -> GridLayout | None:
        """Layout of observations of categories; None for numbers."""
        return GridLayout(*self.grid) if self.grid else None

    @property
    def num_tasks(self) -> int:
        return len(self.task_names)

    @property
    def discrete(self) -> bool:
        return bool(self.num_actions)

    @property
    def action_dim(self) -> int:
        """Components of a continuous action, or the number of discrete actions."""
        return max(self.num_actions, default=len(self.action_low))

    @classmethod
    def of(cls, env: TaskVectorEnv) -> Self:
        """Raises AgentError unless observations are flat and actions a bounded flat ``Box`` or ``Discrete``."""
        if not isinstance(env, TaskVectorEnv):
            raise AgentError(
                f"env: a {type(env).__name__} is no TaskVectorEnv; agents need what make_vec returns, without wrappers"
            )
        obs_space, action_space = env.single_observation_space, env.single_action_space
        if not isinstance(obs_space, Box) or len(obs_space.shape) != 1:
            raise AgentError(
                f"env: observation space {obs_space} is not supported; it must be a flat Box"
            )
        suite, obs_dim, grid = env.suite, obs_space.shape[0], grid_of(env)
        if isinstance(action_space, Discrete) and action_space.start == 0:
            counts = tuple(task.num_actions or int(action_space.n) for task in suite.tasks)
            return cls(suite.id, suite.task_names, obs_dim, num_actions=counts, grid=grid)
        if (
            not isinstance(action_space, Box)
            or len(action_space.shape) != 1
            or not action_space.is_bounded()
        ):
            raise AgentError(
                f"env: {suite.id} has action space {action_space}; agents need a bounded flat Box, or Discrete from 0"
            )
        low = tuple(action_space.low.tolist())
        high = tuple(action_space.high.tolist())
        return cls(suite.id, suite.task_names, obs_dim, low, high, grid=grid)


def grid_of(env: TaskVectorEnv) -> tuple[int, ...]:
    """Fields of the ``GridLayout`` of an environment with observations of categories, else ().

    Raises:
        AgentError: the observations are bytes of an unknown layout, or of another size than the layout says.
    """
    space = env.single_observation_space
    layout = getattr(env, "obs_layout", None)
    if layout is None:
        if space.dtype == np.uint8:
            raise AgentError(
                f"env: {env.suite.id} observes bytes without an obs_layout that says what they mean"
            )
        return ()
    objects, colors, states = layout.channels
    grid = GridLayout(
        objects, colors, states, layout.directions, layout.mission_words, layout.vocabulary
    )
    if space.shape != (grid.num_bytes,):
        raise AgentError(
            f"env: {env.suite.id} observes {space.shape}, but a 7 x 7 view, direction and {grid.words} mission words "
            f"have {grid.num_bytes} bytes"
        )
    return grid


class Agent(ABC):
    """A task-conditioned agent bound to one task-major vector environment.

    Attributes:
        env_steps: environment steps taken so far, summed over tasks.
        gradient_steps: optimiser updates taken so far.
        logger: takes what callbacks record.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[AgentConfig]]
    discrete_actions: ClassVar[bool] = False  # whether it can act in discrete suites
    # What total_env_steps, checkpoints and intervals count: env steps summed over tasks, or for agents that learn from
    # data alone gradient_steps.
    unit: ClassVar[str] = "env_steps"
    spec_class: ClassVar[type[EnvSpec]] = EnvSpec
    config: AgentConfig

    def __init__(
        self,
        env: TaskVectorEnv | EnvSpec,
        config: AgentConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        **overrides: Any,
    ) -> None:
        """Bind the agent to ``env``.

        Args:
            env: from ``make_vec``, without wrappers. With an ``EnvSpec`` the agent can predict, but learns only after
                ``set_env``.
            config: settings, an instance of ``config_class``; its defaults if None.
            seed: seed of the parameters, of exploration and of sampling from the buffer, 0 to 2**32 - 1.
            device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for a GPU if there is one.
            overrides: single settings that replace those of ``config``.

        Raises:
            AgentError: an unknown setting, an impossible value, or spaces that this agent cannot act in.
        """
        if config is not None and not isinstance(config, self.config_class):
            raise AgentError(
                f"config: a {type(config).__name__} is no {self.config_class.__name__}"
            )
        self.config = override(config or self.config_class(), overrides)
        self.seed = check_seed(seed)
        self.device = resolve_device(device)
        self.spec = env if isinstance(env, EnvSpec) else self.spec_class.of(env)
        if self.spec.discrete and not self.discrete_actions:
            raise AgentError(
                f"env: {self.spec.suite} has discrete actions; {self.name} needs a bounded Box"
            )
        self._env = None if isinstance(env, EnvSpec) else env
        self.env_steps = 0
        self.gradient_steps = 0
        self.logger: Any = Recorder()
        self._hooks = Hooks(self, [])

    @property
    def env(self) -> TaskVectorEnv:
        """The training environment. Raises AgentError if there is none yet."""
        if self._env is None:
            raise AgentError(
                "env: this agent was loaded without an environment; call set_env before learn"
            )
        return self._env

    def learn(self, total_env_steps: int, callback: Any = None) -> Self:
        """Train until ``env_steps`` reaches ``total_env_steps``.

        Args:
            total_env_steps: env steps summed over tasks, counted from the agent's creation; calling again with a larger
                number continues. A whole number; ``1e6`` is one.
            callback: one or a list of: a function of the agent, called after every ``advance``; an SB3
                ``BaseCallback``, called as SB3 calls it, after the transition is stored. Returning False stops: a
                function after the ``advance``, an SB3 callback at once (an unfinished rollout is dropped, as in SB3).

        Raises:
            AgentError: a total that is no whole number, or a callback of another kind.
            DivergedError: from ``metrics``, when a loss is not finite.
        """
        total_env_steps = check_total(total_env_steps)
        objects, functions = sort_callbacks(callback)
        self._hooks = hooks = Hooks(self, objects)
        self.begin(total_env_steps)
        hooks.training_start(total_env_steps)
        # Hooks are those of this call only, also where it ends with an error.
        try:
            while self.progress < total_env_steps:
                hooks.rollout_start()
                self.advance()
                answers = [function(self) for function in functions]
                if False in answers:
                    break
        except LearningStopped:
            pass
        finally:
            self._hooks = Hooks(self, [])
        hooks.training_end()
        return self

    def begin(self, total_env_steps: int) -> None:  # noqa: B027  (most agents have no schedule)
        """Note where training is to end, for schedules; ``learn`` calls it first."""

    def cautions(self, total_env_steps: int) -> list[str]:
        """Sentences on what a run until ``total_env_steps`` will not do, though its settings ask for it."""
        return []

    @abstractmethod
    def advance(self) -> None:
        """Collect the next piece of experience (one vector step, or one rollout) and do the updates it pays for."""

    @abstractmethod
    def predict(
        self,
        observation: NDArray,
        state: Any = None,
        episode_start: NDArray | None = None,
        deterministic: bool = False,
        *,
        task_id: NDArray | None = None,
    ) -> tuple[NDArray, Any]:
        """Actions for ``observation``, ``[n, D]`` or ``[D]``, and the next memory state (None without memory).

        As in SB3, whatever ``np.asarray`` makes such an array of will do, so lists of numbers too.

        Args:
            task_id: int ``[n]``. May be left out when the rows are those of the agent's own environment, or when the
                suite has one task. Takes no part in training's random streams if ``deterministic``.

        Raises:
            AgentError: an observation or ``task_id`` of another shape or kind.
        """

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Means of everything logged since the last call, keyed ``train/…`` or ``rollout/…``. Syncs the device.

        Raises:
            DivergedError: a logged value is not finite.
        """

    def images(self) -> dict[str, NDArray]:
        """Matrices in [0, 1] worth looking at now, by log key."""
        return {}

    def check_finite(self) -> None:
        """Raise DivergedError, naming the tensor, if any parameter or optimiser state is not finite."""
        tensors, _ = split_state(self.state_dict(experience=False))
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise DivergedError(
                    f"{name} is not finite after {self.gradient_steps} gradient steps"
                )

    def rebase(self, boundary: int) -> None:
        """Restart the collection at a checkpoint boundary; called for environments without an exact state only."""
        raise AgentError(
            f"env: {self.name} cannot restart its collection; choose a backend that saves its exact state"
        )

    @abstractmethod
    def state_dict(self, experience: bool = True) -> State:
        """All that affects the next ``advance`` (environment apart): nested dicts of tensors and JSON scalars.

        Args:
            experience: whether to include collected experience (a replay buffer), which ``predict`` does not need.
        """

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Continue exactly from ``state_dict()``; without experience in it, collection starts afresh."""

    @property
    def num_parameters(self) -> int:
        """Trainable parameters, target networks not counted; here, all numbers that the agent saves.

        An agent whose state holds more than its parameters says so itself.
        """
        tensors, _ = split_state(self.state_dict(experience=False))
        return sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point())

    def set_env(self, env: TaskVectorEnv) -> None:
        """Continue in another environment with the same tasks and spaces; episodes start afresh."""
        spec = self.spec_class.of(env)
        kinds = {True: "discrete", False: "continuous"}
        if spec.discrete != self.spec.discrete:
            theirs, ours = kinds[spec.discrete], kinds[self.spec.discrete]
            raise AgentError(
                f"env: {spec.suite} has {theirs} actions, but this agent was built for {ours} ones"
            )
        if spec.grid != self.spec.grid or spec.obs_dim != self.spec.obs_dim:
            raise AgentError(
                f"env: {spec.suite} has observations of {spec.obs_dim} entries, laid out otherwise than the "
                f"{self.spec.obs_dim} that this agent was built for"
            )
        for field in dataclasses.fields(spec):
            old, new = getattr(self.spec, field.name), getattr(spec, field.name)
            if old != new and field.name != "suite":
                raise AgentError(
                    f"env: {field.name} is {new!r}, but this agent was built for {old!r}"
                )
        self._env = env

    @property
    def progress(self) -> int:
        """How far training has come, in ``unit``."""
        taken: int = getattr(self, self.unit)
        return taken

    @property
    def unit_in_words(self) -> str:
        """``unit`` for sentences."""
        return self.unit.replace("_", " ")

    @property
    def num_timesteps(self) -> int:
        """``env_steps`` under the name that SB3's callbacks read."""
        return self.env_steps

    def get_env(self) -> TaskVectorEnv | None:
        """The training environment, for SB3's callbacks."""
        return self._env

    def get_vec_normalize_env(self) -> None:
        """None: observations are normalized inside the agent, if at all. For SB3's callbacks."""
        return

    def set_logger(self, logger: Any) -> None:
        """Let callbacks record into ``logger``, such as one of ``stable_baselines3.common.logger.configure``."""
        self.logger = logger

    def save(self, path: str | Path) -> None:
        """Write the agent, without collected experience, to one safetensors file."""
        write_state(Path(path), self.saved())

    def saved(self) -> State:
        """What ``save`` writes and ``load`` reads: how to make the agent again, and its state without experience."""
        about = {
            "agent": self.name,
            "config": json.dumps(values_of(self.config)),
            "spec": json.dumps(dataclasses.asdict(self.spec)),
            "seed": self.seed,
        }
        return {"about": about, "state": self.state_dict(experience=False)}

    @classmethod
    def load(
        cls, path: str | Path, env: TaskVectorEnv | None = None, device: str | torch.device = "auto"
    ) -> Self:
        """Read what ``save`` wrote.

        Raises:
            AgentError: the file is missing, damaged, of another agent, or does not fit ``env``.
        """
        saved = read_state(Path(path))
        about = saved.get("about")
        if not isinstance(about, dict):
            raise AgentError(f"path: {path} holds no saved agent; give a file that save wrote")
        if about.get("agent") != cls.name:
            raise AgentError(
                f"path: {path} holds agent {about.get('agent')!r}; {cls.__name__} loads {cls.name!r}"
            )
        saved_spec = json.loads(about["spec"]).items()
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved_spec}
        config = override(cls.config_class(), json.loads(about["config"]))
        agent = cls(cls.spec_class(**fields), config, seed=about["seed"], device=device)
        agent.load_state_dict(saved["state"])
        if env is not None:
            agent.set_env(env)
        return agent


def check_seed(seed: Any) -> int:
    """``seed`` as an int. Raises AgentError for what is none."""
    number = as_integer(seed)
    if number is None or not 0 <= number <= MAX_SEED:
        raise AgentError(f"seed: {seed!r} is not an integer from 0 to {MAX_SEED}")
    return number


def check_total(total_env_steps: Any) -> int:
    """Env steps to learn for, as an int. Raises AgentError for what is no whole number of at least 0."""
    whole = isinstance(total_env_steps, float) and total_env_steps.is_integer()
    number = int(total_env_steps) if whole else as_integer(total_env_steps)
    if number is None or number < 0:
        raise AgentError(
            f"total_env_steps: {total_env_steps!r} is not a whole number of at least 0"
        )
    return number


def override(config: AgentConfig, overrides: dict[str, Any]) -> Any:
    """``config`` with single settings replaced. Raises AgentError for an unknown one, naming the nearest."""
    names = [field.name for field in dataclasses.fields(config)]
    for name in overrides:
        if name not in names:
            raise unknown("setting", name, names)
    return dataclasses.replace(config, **overrides)


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` is a GPU if there is one. Raises AgentError for a device that this machine lacks."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = torch.device("meta")
    if resolved.type not in ("cpu", "cuda"):
        raise AgentError(f"device: {str(device)!r} is unknown; use auto, cpu, cuda or cuda:N")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise AgentError(
            f"device: {str(device)!r} is not there; this machine has {torch.cuda.device_count()} GPUs"
        )
    return resolved
