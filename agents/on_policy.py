"""What on-policy agents share: collecting rollouts, memory, exploration, schedules, prediction and state.

An algorithm adds its networks and its update. Letters: T tasks, E environments per task, L steps of a rollout,
D features of an observation, A components of an action, H units of memory.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents.common import Networks
from mtrl.agents.curricula.coupling import Features
from mtrl.agents.curricula.rounds import Rounds
from mtrl.agents.data.arrays import Array, device_of, given, placed, to_tensor
from mtrl.agents.data.noise import correlated
from mtrl.agents.data.normalize import ObsNormalizer
from mtrl.agents.data.rollout import Memory, Rollout, RolloutBuffer, check_rollout
from mtrl.agents.data.tracking import EpisodeTracker
from mtrl.agents.data.transfer import Transfer
from mtrl.agents.errors import AgentError
from mtrl.agents.members import group_rows, with_task_code
from mtrl.agents.networks.memory import Recall
from mtrl.agents.policies import Gaussian
from mtrl.agents.scheduled import EXPERIENCE, PROBES, ActorOutputs, ScheduledAgent
from mtrl.agents.state import Mark
from mtrl.envs.vector import TaskVectorEnv


class Taken(NamedTuple):
    """A vector step that was taken.

    Attributes:
        step: its number in the rollout.
        obs: normalized observations ``[T E, D]``.
        action: of every environment, as it is stored.
        memory: before the step; None for networks without any.
        outcome: what the environment gave: true next observations, rewards, terminations and ends.
        noise: what the actor's body drew, ``[T E, n]``; None where it draws nothing.
    """

    step: int
    obs: Array
    action: Array
    memory: Memory | None
    outcome: tuple[Array, ...]
    noise: Tensor | None


@dataclass(init=False, eq=False, repr=False)
class OnPolicyAgent(ScheduledAgent):
    """Learns from rollouts of its present policy, one after the other. To a curriculum a rollout is a round.

    Rollouts may be longer than episodes and cross their ends.

    The fields are its state.
    """

    cycles: ClassVar[bool] = True
    state: Annotated[Networks, Mark("networks")]
    _normalizer: ObsNormalizer
    _explore: torch.Generator
    _shuffle: torch.Generator
    _within: torch.Generator | None
    env_steps: int
    gradient_steps: int
    _rounds: Rounds
    _episodes: Annotated[EpisodeTracker | None, EXPERIENCE]
    _obs: Annotated[Array | None, EXPERIENCE]
    _noise: Annotated[Tensor | None, Mark(experience=True, on_host=True)]
    _memory: Annotated[Memory | None, EXPERIENCE]
    _rollout: Annotated[Rollout | None, EXPERIENCE]
    _planned: int | None
    _phase: int | None

    def _begin_data(self) -> None:
        self._explore = torch.Generator().manual_seed(self._stream(1))
        self._shuffle = torch.Generator(self.device).manual_seed(self._stream(2))
        # A stream of its own, so that draws by priorities begin with the uniform ones.
        self._within = None
        if not self.settings.sampling.is_uniform:
            self._within = torch.Generator(self.device).manual_seed(self._stream(3))
        self._normalizer = ObsNormalizer(
            self.spec.obs_dim, self.config.normalize_obs and self.spec.layout is None
        )
        # Small networks may act faster on the CPU beside the simulation, with no copy at a step.
        self.act_on(self.device)
        self._acting_log_std: Tensor | None = None
        self._share = 0.0
        self._row_noise: Tensor | None = None
        # The step size of the update that the rollout under way pays for.
        self._step_size = self.config.learning_rate
        self._forget()
        self._check_rollout()

    def act_on(self, device: torch.device) -> None:
        """Let the networks that act, and statistics of observations, be on ``device`` from the next rollout on."""
        self.acting_device = device
        self._acting_policy = self.policy.on(device)
        self._to_device, self._to_host = Transfer(device), Transfer(device)

    @property
    def sequence(self) -> int:
        """Steps through which gradients flow in memory; 0 without memory."""
        steps: int = self.settings.sequence
        return steps

    @property
    @abstractmethod
    def acting_dtype(self) -> torch.dtype:
        """The arithmetic of collection."""

    @abstractmethod
    def update(self, rollout: Rollout) -> None:
        """Learn from a rollout."""

    def advance(self) -> None:
        """Collect one rollout in every environment, and learn from it."""
        rollout = self.collect()
        self.update(rollout)

    @property
    def follows_total(self) -> bool:
        return bool(self.config.schedule != "constant") or super().follows_total

    def ends_at(self, total: int) -> int | None:
        # Tasks that pause take no steps, and which will pause is decided as training goes on.
        if self._rounds.paused is not None:
            return None
        return self._in_pieces(total, self.config.rollout_per_task * self.spec.num_tasks)

    def most_updates(self, total_env_steps: int) -> int:
        rollout = self.config.rollout_per_task * self.spec.num_tasks
        rollouts = -(-total_env_steps // rollout)
        # Tasks that pause shorten rollouts, to one task's part at the least.
        if self._rounds.curriculum.info.paces:
            rollouts *= self.spec.num_tasks
        return rollouts * self.config.epochs * self.config.minibatches

    def set_env(self, env: TaskVectorEnv) -> None:
        super().set_env(env)
        self._check_rollout()
        self._forget()

    def _forget(self) -> None:
        """Drop what belongs to the environment: episodes in progress, and what goes on from their last step."""
        self._episodes = None
        self._obs = None
        self._noise = None
        self._memory = None
        self._rollout = None

    def _check_rollout(self) -> None:
        if self._env is not None:
            check_rollout(self.config.rollout_per_task, self._env.envs_per_task, self.sequence)

    # Collection

    def collect(self) -> Rollout:
        """Take ``rollout_per_task`` env steps with the present policy, of every task or of those that do not pause."""
        # The step size is that of the time at which the rollout begins, whose update it pays for.
        self._step_size = self.config.learning_rate * self._share_left()
        self._pass_phases()
        # Acting and losses see the share at which the rollout began, so that they are of one policy.
        self._share = self.share_done
        self._row_noise = None
        env, episodes, obs = self._collector()
        paused = self._paused(env)
        active = np.ones(env.num_tasks, np.bool_) if paused is None else ~paused
        acting = np.repeat(active, env.envs_per_task)
        steps_taken = int(acting.sum())
        # Indices, since to select by flags a device would have to say how many there are.
        moving = None if paused is None else placed(np.flatnonzero(acting), self._kept_on)
        moves = to_tensor(acting, self.acting_device) if self.sequence else None
        counted = None if paused is None else placed(active, env.device)
        buffer = self._rollout_buffer(env)
        self._read_actors()
        taken: Taken | None = None
        try:
            for step in range(self.config.rollout_per_task // env.envs_per_task):
                # What a step needs goes up together with what came of the last one.
                waiting = () if taken is None else taken.outcome
                there, drawn, noise, *arrived = self._to_device.upload(
                    obs, *self._draws(), *waiting
                )
                self._keep(buffer, taken, arrived, moves)
                taken = None
                # Tasks that pause repeat one observation, which would weigh on the statistics for ever.
                self._normalizer.count(there if moving is None else there[moving])
                normal = self._normalizer(there)
                before = self._before()
                chosen = self._act(to_tensor(normal, self.acting_device), drawn, noise)
                action = self._to_host.place(chosen, env.device)
                kept = action if self._kept_on == env.device else chosen
                env.step_async(self.policy.to_env(action))
                obs, reward, terminated, truncated, info = env.step_wait()
                done = terminated | truncated
                outcome = info["final_obs"], reward, terminated, done
                # The device's buffer may be written to by the next step.
                numbers = None if drawn is None else drawn.flatten(0, 2).clone()
                taken = Taken(step, normal, kept, before, outcome, numbers)
                episodes.add(reward, info["success"], done, counted)
                self._obs = obs
                self.env_steps += steps_taken
                self._hooks.step(reward, terminated, truncated, info)
        finally:
            # Also where a callback stops, since memory has to know which episodes ended.
            if taken is not None:
                self._keep(buffer, taken, self._to_device.upload(*taken.outcome), moves)
        rollout = buffer.rollout(self.device)
        if paused is not None:
            rollout = rollout.renewed(self._rollout, active)
            self._rollout = rollout
        self._hooks.rollout_end()
        self._begin_round(self._features_of(rollout))
        return rollout

    @property
    def _kept_on(self) -> torch.device | None:
        """Where the rollout under way is: with the environment's arrays, else with the networks that act.

        None for arrays of numpy, as beside networks on the CPU.
        """
        if self.env.device is not None:
            return self.env.device
        return None if self.acting_device.type == "cpu" else self.acting_device

    def _read_actors(self) -> None:
        """Take the parameters that act in the rollout to come."""
        self._acting = self.actor.constants(self._acting_params("actor"), self.acting_dtype)
        if "log_std" in self.state:
            self._acting_log_std = self._acting_params("log_std").unsqueeze(2)
        if self.sequence:
            params = self._acting_params("critic")
            self._remembering = self.critic.constants(params, self.acting_dtype)

    def _keep(
        self,
        buffer: RolloutBuffer,
        taken: Taken | None,
        outcome: Sequence[Array],
        moves: Tensor | None,
    ) -> None:
        """Store a step, if one was taken, whose ``outcome`` is now where the rollout is."""
        if taken is None:
            return
        step, normal, action, before, _, noise = taken
        final, reward, terminated, done = outcome
        after = self._normalizer(final)
        transition = (normal, after, action, reward, terminated, done)
        buffer.add(step, *transition, before=before, noise=noise)
        if before is not None and moves is not None and self._memory is not None:
            # The memory of a task that pauses stays what it was: no step was taken.
            start = torch.where(moves, to_tensor(done, self.acting_device), before.start)
            state = torch.where(moves.unsqueeze(-1), self._memory.state, before.state)
            self._memory = Memory(start, state)

    def _acting_params(self, network: str) -> Tensor:
        params: Tensor = self.state[network]["params"]
        return params.to(self.acting_device)

    def _collector(self) -> tuple[TaskVectorEnv, EpisodeTracker, Array]:
        """Environment, tracker and current observations."""
        obs = self._observed()
        assert self._episodes is not None
        return self.env, self._episodes, obs

    def _make_room(self, env: TaskVectorEnv) -> None:
        if self._episodes is None:
            self._episodes = EpisodeTracker(self.spec.task_names, env.envs_per_task, env.device)

    def _paused(self, env: TaskVectorEnv) -> NDArray[np.bool_] | None:
        """Let tasks pause as the curriculum says; which do ``[T]``, or None with a curriculum that never lets any."""
        paused = self._rounds.paused
        if paused is None:
            return None
        # A task pauses only once there is a rollout of its own to learn from.
        paused &= self._rollout is not None
        env.pause(paused)
        return paused

    def _rollout_buffer(self, env: TaskVectorEnv) -> RolloutBuffer:
        spec = self.spec
        shape = (
            env.num_tasks,
            self.config.rollout_per_task // env.envs_per_task,
            env.envs_per_task,
        )
        action_dim = None if spec.discrete else spec.action_dim
        obs_type = "float32" if spec.layout is None else "uint8"
        where = self._kept_on
        pinned = where is None and self.device.type == "cuda"
        return RolloutBuffer(shape, spec.obs_dim, action_dim, obs_type, where, pinned)

    def _draws(self) -> tuple[Tensor | None, Tensor]:
        """The random numbers of a vector step, on the host: the network's (None where it draws none), the policy's."""
        rows = (*self._lead, self.env.envs_per_task)
        of_network = self._drawn_rows(rows)
        noise = self.policy.draw(rows, self._explore)
        if isinstance(self.policy, Gaussian):
            noise = self._next_noise(noise)
        return of_network, noise

    @torch.no_grad()
    def _act(self, rows: Tensor, drawn: Tensor | None, noise: Tensor) -> Tensor:
        """Sampled actions of every environment's normalized observation ``[T E, D]``; moves the memory on.

        Args:
            drawn, noise: what ``_draws`` returned.
        """
        x = with_task_code(
            rows.view(*self._lead, -1, self.spec.obs_dim), self.config.heads == "one-hot"
        )
        recalled: list[Recall | None] = [None, None]
        if self._memory is not None:
            start = self._memory.start.view(x.shape[:3])
            parts = self._memory.state.chunk(2, -1)
            recalled = [Recall(part.view(*x.shape[:3], -1), start) for part in parts]
        hidden = self.actor.features(self._acting, x, recalled[0], drawn, self._share)
        # The critic's memory has to move on too, since sequences start from it in the update.
        if self._memory is not None:
            values = self.critic.features(self._remembering, x, recalled[1], None, self._share)
            state = torch.cat([hidden, values], -1).flatten(0, 2)
            self._memory = self._memory._replace(state=state)
        output = self.actor.outputs(self._acting, hidden)
        # Noise that follows an environment on a device was made there.
        numbers = to_tensor(noise, self.acting_device)
        sampled = self._acting_policy.sample(output, numbers, self._acting_log_std)
        return sampled.flatten(0, 2)

    def _drawn_rows(self, rows: Sequence[int]) -> Tensor | None:
        """The numbers of each row that the actor's body draws in a vector step, ``[S, T, E, n]``."""
        # What all rows of a task have in common stays the same for a rollout.
        if self._row_noise is None or not self.actor.body.draws_by_task:
            self._row_noise = self.network_noise(self.actor, rows)
        return self._row_noise

    def _next_noise(self, fresh: Tensor) -> Tensor:
        """The noise of a step from ``fresh`` normal numbers, correlated with the last one's where that is asked for."""
        correlation = self._noise_correlation()
        # Noise is made on the host, unless what it follows lives with the environment on a device.
        where = device_of(correlation)
        fresh = fresh if where is None else fresh.to(where)
        self._noise = correlated(self._noise, fresh, correlation)
        return fresh if self._noise is None else self._noise

    def _before(self) -> Memory | None:
        """The memory before the next step; None for networks without any."""
        if self.sequence and self._memory is None:
            device = self.acting_device
            state = torch.zeros(self.env.num_envs, 2 * self.config.width, device=device)
            start = torch.ones(self.env.num_envs, dtype=torch.bool, device=device)
            self._memory = Memory(start, state)
        return self._memory

    # Schedules

    def _share_left(self) -> float:
        """What the schedule leaves of step sizes and noise correlation, from 1 to 0."""
        if self.config.schedule == "constant" or self._budget is None:
            return 1.0
        return max(0.0, 1 - self.env_steps / self._budget)

    def _noise_correlation(self) -> Array | None:
        """Correlation of successive exploration noise of each task now, ``[T]``; None where there is none."""
        left, until = self._share_left(), self.config.noise_until
        share = left if until is None else float(1 - left < until)
        rho = self.config.noise_correlation * share
        if not rho:
            return None
        if not self.config.noise_by_failure:
            return np.full(self.spec.num_tasks, rho)
        assert self._episodes is not None
        return rho * (1 - self._episodes.recent_success)

    @property
    def _share_of_update(self) -> float:
        return self._share

    # Prediction

    def _actor_outputs(
        self,
        rows: Array,
        ids: NDArray,
        state: Any,
        episode_start: Array | None,
        samples: bool,
    ) -> ActorOutputs:
        recalled = self._recalled(len(rows), state, episode_start)
        tasks = torch.from_numpy(ids).to(self.device)
        # Statistics that live on the device are not asked for from there.
        (there,) = Transfer(self.device).upload(rows)
        normal = to_tensor(self._normalizer(there), self.device)
        output, memory = self._outputs(normal, tasks, recalled, samples)
        log_std = None
        if "log_std" in self.state:
            log_std = self.state["log_std"]["params"].flatten(0, 1)[tasks]
        return ActorOutputs(output, log_std, memory)

    def _recalled(self, rows: int, state: Any, episode_start: Array | None) -> Recall | None:
        """What the actor goes on from, of ``predict``'s arguments; None without memory."""
        if not self.sequence:
            return None
        # Without a state an episode begins, as where SB3's recurrent policies are given none.
        shape = (rows, self.config.width)
        kept = (
            torch.zeros(shape)
            if state is None
            else to_tensor(given(state), self.device).float()
        )
        if kept.shape != shape:
            raise AgentError(
                f"state: shape {tuple(kept.shape)} is not {shape}, the memory of {rows} observations"
            )
        start = np.zeros(rows, bool) if episode_start is None else given(episode_start)
        begun = to_tensor(start, self.device).bool().expand(rows)
        return Recall(kept.to(self.device)[None, None], begun[None, None])

    @torch.no_grad()
    def _outputs(
        self,
        x: Tensor,
        tasks: Tensor,
        recalled: Recall | None = None,
        samples: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The actor's outputs ``[n, O]`` for normalized rows ``[n, D]`` of any tasks ``[n]``, and the memory.

        Args:
            samples: whether the body draws its noise.
        """
        actor = self.actor.views(self.state["actor"]["params"], torch.float32)
        index, place = group_rows(tasks.cpu().numpy(), self.spec.num_tasks)
        rows = torch.from_numpy(index).to(self.device)
        back = torch.from_numpy(place).to(self.device)
        lead = 1 if self._separate else 0
        grouped = with_task_code(x[rows].unsqueeze(lead), self.config.heads == "one-hot")
        if recalled is not None:
            # Every row is a sequence of one step.
            recalled = Recall(
                recalled.state[0, 0, rows][None], recalled.start[0, 0, rows][None]
            )
        drawn = None
        if samples:
            drawn = self.network_noise(self.actor, grouped.shape[:3])
        if drawn is not None:
            drawn = drawn.to(self.device)
        hidden = self.actor.features(actor, grouped, recalled, drawn, self.share_done)
        output = self.actor.outputs(actor, hidden).flatten(0, 2)[back]
        return output, None if recalled is None else hidden.flatten(0, 2)[back]

    def _features_of(self, rollout: Rollout) -> Features:
        """Gives every task's policy at some of the observations of a rollout, when a curriculum asks for it."""
        return partial(self._policy_features, rollout.obs[0].flatten(1, 2))

    def _policy_features(self, obs: Tensor) -> Tensor:
        """Every task's policy at some of the normalized observations ``[T, n, D]``, ``[T, m, F]``."""
        tasks = self.spec.num_tasks
        rows = obs[:, :: max(1, obs.shape[1] // PROBES)].flatten(0, 1)
        owner = torch.arange(tasks, device=self.device).repeat_interleave(len(rows))
        output, _ = self._outputs(rows.repeat(tasks, 1), owner)
        return self.policy.of_rows(owner).features(output).unflatten(0, (tasks, -1))

    # Metrics and state

    @torch.no_grad()
    def _newest_inputs(self) -> dict[str, Tensor]:
        if self._obs is None:
            return {}
        rows = to_tensor(self._normalizer(self._obs), self.device)
        lead = (*self._lead, -1, self.spec.obs_dim)
        x = with_task_code(rows.view(lead)[:, :, :PROBES], self.config.heads == "one-hot")
        return {"actor": x, "critic": x}

    def rebase(self, boundary: int) -> None:
        """Restart the collection; nothing is lost, since no rollout is under way between two calls of ``advance``."""
        _, episodes, _ = self._collector()
        self._obs = self.env.rebase(boundary)
        self._noise = None
        self._memory = None
        episodes.restart()

    @property
    def num_parameters(self) -> int:
        held = [tensors["params"] for tensors in self.state.values() if "params" in tensors]
        return sum(params.numel() for params in held) - self._num_copies
