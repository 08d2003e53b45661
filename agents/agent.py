"""The verbs every agent has, and the one training loop all of them share."""

from __future__ import annotations

import dataclasses
import json
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray

from mtrl.agents.callbacks import Hooks, LearningStopped, Recorder, sort_callbacks
from mtrl.agents.data.arrays import Array
from mtrl.agents.data.spec import check_env, check_same
from mtrl.agents.errors import AgentError, DivergedError, check_seed, check_total, unknown
from mtrl.agents.files import read_state, write_state
from mtrl.agents.optim.graphs import GraphMode, uses_graphs
from mtrl.agents.settings import AgentConfig as AgentConfig
from mtrl.agents.settings import values_of
from mtrl.agents.sharing.hub import local_folder
from mtrl.agents.sharing.locate import agent_file
from mtrl.agents.state import Saved, restore, split_state, to_dict
from mtrl.envs.specs import EnvSpec as EnvSpec
from mtrl.envs.vector import TaskVectorEnv

State = Saved


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
    records_updates: ClassVar[bool] = False  # whether updates can be recorded as CUDA graphs
    config: AgentConfig

    def __init__(
        self,
        env: TaskVectorEnv | EnvSpec,
        config: AgentConfig | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        graph: GraphMode = "auto",
        **overrides: Any,
    ) -> None:
        """Bind the agent to ``env``.

        Args:
            env: from ``make_vec``, without wrappers. With an ``EnvSpec`` the agent can predict, but learns only after
                ``set_env``.
            config: settings, an instance of ``config_class``; its defaults if None.
            seed: seed of the parameters, of exploration and of sampling from the buffer, 0 to 2**32 - 1.
            device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for the CPU (see ``auto_remark``).
            graph: whether updates are recorded as CUDA graphs: ``on``, ``off``, or ``auto`` where the device is a GPU
                and the update can be recorded.
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
        remark = auto_remark(device)
        if remark is not None:
            warnings.warn(remark, stacklevel=2)
        self.graph: GraphMode = graph
        uses_graphs(
            graph, self.device, self.graph_obstacle if not self.records_updates else None
        )
        self.spec = env if isinstance(env, EnvSpec) else self._spec_of(env)
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
    def graph_obstacle(self) -> str | None:
        """Why updates cannot be recorded as CUDA graphs; None if they can."""
        return f"agent {self.name!r} offers none"

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
                number continues, one that is already reached trains nothing and warns. A whole number; ``1e6`` is one.
            callback: one or a list of: a function of the agent, called after every ``advance``; an SB3
                ``BaseCallback``, called as SB3 calls it, after the transition is stored. Returning False stops: a
                function after the ``advance``, an SB3 callback at once (an unfinished rollout is dropped, as in SB3).

        Raises:
            AgentError: a total that is no whole number, or a callback of another kind.
            DivergedError: from ``metrics``, when a loss is not finite.
        """
        total_env_steps = check_total(total_env_steps)
        if 0 < total_env_steps <= self.progress:
            warnings.warn(
                f"learn({total_env_steps}) trains nothing: the total counts from the agent's creation, and it has "
                f"taken {self.progress} {self.unit_in_words}; learn({self.progress + total_env_steps}) trains more",
                stacklevel=2,
            )
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

    @property
    def follows_total(self) -> bool:
        """Whether a schedule follows the planned total, so that training to another total is other training."""
        return False

    def ends_at(self, total: int) -> int | None:
        """Env steps at which training to ``total`` ends, since ``advance`` takes whole pieces; None if they differ."""
        return self._in_pieces(total, self.env.num_envs)

    def _in_pieces(self, total: int, piece: int) -> int:
        """Where training to ``total`` ends if every ``advance`` takes ``piece`` env steps."""
        pieces = -(-max(total - self.env_steps, 0) // piece)
        return self.env_steps + pieces * piece

    def cautions(self, total_env_steps: int) -> list[str]:
        """Sentences on what a run until ``total_env_steps`` will not do, though its settings ask for it."""
        return []

    @abstractmethod
    def advance(self) -> None:
        """Collect the next piece of experience (one vector step, or one rollout) and do the updates it pays for."""

    @abstractmethod
    def predict(
        self,
        observation: Array,
        state: Any = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
        *,
        task_id: Array | None = None,
    ) -> tuple[Array, Any]:
        """Actions for ``observation``, ``[n, D]`` or ``[D]``, and the next memory state (None without memory).

        As in SB3, whatever ``np.asarray`` makes such an array of will do, so lists of numbers too. Of a tensor come
        tensors, on its device.

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

    def state_dict(self, experience: bool = True) -> State:
        """All that affects the next ``advance`` (environment apart), as ``agents.state.to_dict`` gives it.

        An agent that is a dataclass declares it by its fields; any other overrides this and ``load_state_dict``.
        The tensors are the agent's own, not copies.

        Args:
            experience: whether to include collected experience (a replay buffer), which ``predict`` does not need.
        """
        return to_dict(self, experience)

    def load_state_dict(self, state: State) -> None:
        """Continue exactly from ``state_dict()``; without experience in it, collection starts afresh.

        Raises:
            AgentError: the state is of an agent with other parts or sizes; this one is then unchanged.
        """
        restore(self, state, self.device)

    @property
    def num_parameters(self) -> int:
        """Trainable parameters, target networks not counted; here, all numbers that the agent saves.

        An agent whose state holds more than its parameters says so itself.
        """
        tensors, _ = split_state(self.state_dict(experience=False))
        return sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point())

    def set_env(self, env: TaskVectorEnv) -> None:
        """Continue in another environment with the same tasks and spaces; episodes start afresh."""
        spec = self._spec_of(env)
        check_same(self.spec, spec)
        self.spec = dataclasses.replace(self.spec, builds_on=spec.builds_on)
        self._env = env

    def _spec_of(self, env: TaskVectorEnv) -> EnvSpec:
        check_env(env)
        return self.spec_class.of(env)

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
        cls,
        path: str | Path,
        env: TaskVectorEnv | None = None,
        device: str | torch.device = "auto",
    ) -> Self:
        """Read what ``save`` wrote.

        Args:
            path: the file, a checkpoint's folder, a run's folder (its newest whole checkpoint), or a shared folder.
            env: what the agent is bound to; without one it can predict, and learns after ``set_env``.

        Raises:
            AgentError: the file is missing, damaged, of another agent, or does not fit ``env``.
        """
        saved = read_state(agent_file(Path(path)))
        about = saved.get("about")
        if not isinstance(about, dict):
            raise AgentError(f"path: {path} holds no saved agent; give a file that save wrote")
        if about.get("agent") != cls.name:
            raise AgentError(
                f"path: {path} holds agent {about.get('agent')!r}; {cls.__name__} loads {cls.name!r}"
            )
        spec = cls.spec_class.of_json(json.loads(about["spec"]))
        config = override(cls.config_class(), json.loads(about["config"]))
        agent = cls(spec, config, seed=about["seed"], device=device)
        if not about.get("optimizer", True):
            restore_optimizer(saved["state"]["networks"], agent.state_dict(experience=False))
        agent.load_state_dict(saved["state"])
        if env is not None:
            agent.set_env(env)
        return agent

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        env: TaskVectorEnv | None = None,
        device: str | torch.device = "auto",
    ) -> Self:
        """The agent of a folder on this machine, else of a repository of the Hugging Face Hub.

        Args:
            name: whatever ``load`` takes, or a Hub id ``ORG/NAME``. A path that exists never touches the network.

        Raises:
            AgentError: as ``load``, or the Hub does not have the repository.
        """
        return cls.load(local_folder(name), env=env, device=device)


OPTIMIZER_FIELDS = ("exp_avg", "exp_avg_sq", "step")


def without_optimizer(saved: State) -> State:
    """What ``Agent.saved`` returns without the optimizer's state, a third of the size; its optimizer starts afresh.

    For agents whose state has ``networks``, each with its ``params`` and the moments of Adam.
    """
    networks = saved["state"]["networks"]
    kept = {
        name: {key: value for key, value in tensors.items() if key not in OPTIMIZER_FIELDS}
        for name, tensors in networks.items()
    }
    return {
        "about": saved["about"] | {"optimizer": False},
        "state": saved["state"] | {"networks": kept},
    }


def restore_optimizer(networks: State, fresh: State) -> None:
    """Put the optimizer's state of a new agent, ``fresh``, into networks that were saved without."""
    for name, tensors in fresh["networks"].items():
        own = networks.setdefault(name, {})
        for key in OPTIMIZER_FIELDS:
            if key in tensors:
                own[key] = tensors[key]


def override(config: AgentConfig, overrides: dict[str, Any]) -> Any:
    """``config`` with single settings replaced. Raises AgentError for an unknown one, naming the nearest."""
    names = [field.name for field in dataclasses.fields(config)]
    for name in overrides:
        if name not in names:
            raise unknown("setting", name, names)
    return dataclasses.replace(config, **overrides)


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` is the CPU, see ``auto_remark``. Raises AgentError for a device that this machine lacks."""
    if str(device) == "auto":
        return torch.device("cpu")
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


def auto_remark(device: str | torch.device) -> str | None:
    """A sentence on why ``auto`` leaves this machine's GPU alone; None where a device is named or there is no GPU."""
    if str(device) != "auto" or not torch.cuda.is_available():
        return None
    return (
        "device: auto trains on the CPU though this machine has a GPU, because no part of this suite has been measured "
        "on one yet; name the device cuda to use it"
    )
