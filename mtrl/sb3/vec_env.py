"""One of our environments as a Stable-Baselines3 ``VecEnv``."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from mtrl.agents.data.spec import check_env
from mtrl.envs import TaskVectorEnv
from mtrl.sb3.encoding import SB3Spec

Indices = int | Iterable[int] | None


class SB3VecEnv(VecEnv):
    """A ``TaskVectorEnv`` for SB3's algorithms, wrappers, callbacks and ``evaluate_policy``.

    Episodes end as SB3 expects: ``infos[i]["terminal_observation"]`` is the true last observation, and
    ``infos[i]["TimeLimit.truncated"]`` says whether the time limit ended the episode (and nothing else did). ``infos``
    also hold ``success`` of this step, ``is_success`` (at any step, when an episode ends) and ``task_id``.

    Actions that a task lacks (MiniGrid's ``num_actions``) are not masked, since SB3's policies know no masks: the
    environment takes them as its own backend documents (it turns left).

    Seeding: ``seed(s)`` makes the next ``reset`` that of an environment newly made with seed ``s``, as a whole; it also
    happens when an algorithm is built with ``seed=s``.

    Args:
        env: owned from now on; ``close`` closes it.
        encode: observations as an MLP policy needs them, that is categories as one-hot codes (uint8 0 and 1) followed
            by the one-hot code of the task, where there is more than one. False gives the environment's own
            observations, as our agents want them: use that with ``evaluate_policy`` and ``EvalCallback`` of our agents,
            with as many environments as the agent trains in, so that it knows the task of each row.
    """

    def __init__(self, env: TaskVectorEnv, encode: bool = True) -> None:
        check_env(env)
        self.env = env
        self.encoding = SB3Spec.of(env)
        self.encode = encode
        self.ever = np.zeros(env.num_envs, bool)
        space = self.encoding.encoded_space() if encode else env.single_observation_space
        super().__init__(env.num_envs, space, copy.deepcopy(env.single_action_space))

    def reset(self) -> NDArray:
        obs, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        return self.restarted(obs)

    def restarted(self, obs: NDArray) -> NDArray:
        """Record that every episode began again with ``obs``. Returns the observation that the policy receives."""
        self.ever[:] = False
        return self.observed(obs)

    def observed(self, obs: NDArray) -> NDArray:
        """The policy's observations, from the environment's ``[num_envs, D]``."""
        return self.encoding.encode(obs, self.env.task_id) if self.encode else obs

    def step_async(self, actions: NDArray) -> None:
        self.env.step_async(actions)

    def step_wait(self) -> tuple[NDArray, NDArray, NDArray, list[dict[str, Any]]]:
        obs, reward, terminated, truncated, info = self.env.step_wait()
        done, success = terminated | truncated, info["success"]
        self.ever |= success
        infos = [
            {"success": bool(won), "task_id": int(task)}
            for won, task in zip(success, self.env.task_id, strict=True)
        ]
        if done.any():
            last = self.observed(info["final_obs"])
            for index in np.flatnonzero(done):
                infos[index] |= {
                    "terminal_observation": last[index],
                    "TimeLimit.truncated": bool(truncated[index] and not terminated[index]),
                    "is_success": bool(self.ever[index]),
                }
            self.ever[done] = False
        return self.observed(obs), reward.astype(np.float32), done, infos

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[NDArray | None]:
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of the vector environment, once for each index; ``task_id`` and ``task_name`` are each row's."""
        rows = list(self._get_indices(indices))
        if attr_name == "task_id":
            return [int(self.env.task_id[row]) for row in rows]
        if attr_name == "task_name":
            return [self.env.suite.task_names[self.env.task_id[row]] for row in rows]
        return [getattr(self.env, attr_name) for _ in rows]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the vector environment; its rows have none of their own."""
        if len(set(self._get_indices(indices))) != self.num_envs:
            raise ValueError(
                f"indices: {indices!r} is not supported; attributes belong to all environments at once"
            )
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list:
        """Call a method of the vector environment, once; the same answer for each index."""
        rows = list(self._get_indices(indices))
        answer = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [answer for _ in rows]

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        """No row is wrapped in anything: rows are no environments of their own."""
        return [False for _ in self._get_indices(indices)]
