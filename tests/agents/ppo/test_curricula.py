"""MTPPO under curricula, with continuous and with discrete actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mtrl.agents import MTPPO, AgentError, MTSACConfig
from mtrl.agents.curricula import CURRICULA
from mtrl.agents.ppo.update import ppo_update
from mtrl.agents.state import clone, join_state, split_state
from mtrl.envs import make_vec
from mtrl.settings.presets import resolve
from tests.agents.ppo.test_agent import DiscreteEnv
from tests.helpers import fakes

SMALL: dict[str, Any] = {"width": 16, "rollout_per_task": 40, "epochs": 2, "minibatches": 4}
COUPLED = "camrl:warmup=1,switch=false"


def _agent(discrete: bool = False, **settings: Any) -> MTPPO:
    env = (
        DiscreteEnv()
        if discrete
        else fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 0, "random", 0, 0.0)
    )
    return MTPPO(env, seed=0, device="cpu", **SMALL | settings)


def _fitting(curriculum: str) -> dict[str, Any]:
    heads = CURRICULA[curriculum.partition(":")[0]]().info.heads
    return {
        "heads": "multi-head" if "multi-head" in heads else "separate",
        "curriculum": curriculum,
    }


def _saved(agent: MTPPO) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors, values = split_state(agent.state_dict())
    return {name: tensor.clone() for name, tensor in tensors.items()}, values


@pytest.mark.parametrize(
    "curriculum", [*sorted(CURRICULA), COUPLED, "camrl-shared:warmup=1,switch=false"]
)
@pytest.mark.parametrize("discrete", [False, True])
def test_a_restored_agent_continues_bit_for_bit(curriculum: str, discrete: bool) -> None:
    settings = _fitting(curriculum)
    agent = _agent(discrete, **settings).learn(360)
    saved, env_state = join_state(*_saved(agent)), agent.env.state_dict()
    other = _agent(discrete, **settings)
    other.env.load_state_dict(env_state)
    other.load_state_dict(saved)
    (first, values), (second, other_values) = _saved(agent.learn(600)), _saved(other.learn(600))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert values == other_values
    assert agent.metrics().get("curriculum/round") == (None if curriculum == "uniform" else 5)


def test_uniform_is_plain_training_and_weights_change_it() -> None:
    plain, uniform = _agent().learn(600), _agent(curriculum="uniform").learn(600)
    focal = _agent(curriculum="mrcl").learn(600)
    params = [agent.state["actor"]["params"] for agent in (plain, uniform, focal)]
    assert torch.equal(params[0], params[1]) and not torch.equal(params[0], params[2])


def test_separate_agents_do_not_touch_each_other() -> None:
    """What one task's rewards are changes its own agent only."""
    agents = [_agent(heads="separate", normalize_obs=False) for _ in range(2)]
    env = agents[1].env
    step = env.step_wait

    def richer() -> Any:
        obs, reward, *rest = step()
        return obs, reward + 5.0 * (env.task_id == 1) * np.sin(np.arange(len(reward))), *rest

    env.step_wait = richer  # type: ignore[method-assign]
    first, second = (agent.learn(120).state["critic"]["params"] for agent in agents)
    assert [torch.equal(a, b) for a, b in zip(first, second)] == [True, False, True]


@pytest.mark.parametrize("discrete", [False, True])
def test_prediction_asks_each_row_of_its_own_agent(discrete: bool) -> None:
    agent = _agent(discrete, heads="separate").learn(600)
    obs = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    tasks = np.array([2, 0, 0, 1, 2, 2, 0])
    together, _ = agent.predict(obs, deterministic=True, task_id=tasks)
    for row, task, action in zip(obs, tasks, together):
        alone, _ = agent.predict(row, deterministic=True, task_id=np.array([task]))
        np.testing.assert_allclose(action, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("discrete", [False, True])
def test_coupled_rollouts_train_every_agent_once_and_grow_the_matrix(discrete: bool) -> None:
    agent = _agent(discrete, heads="separate", curriculum=COUPLED).learn(600)
    metrics = agent.metrics()
    assert metrics["curriculum/multi_task_mode"] == 1
    assert sorted(metrics[f"curriculum/order/task-{task}"] for task in range(3)) == [0, 1, 2]
    assert not np.array_equal(agent.images()["curriculum/transfer"], np.eye(3))
    steps = agent.state["actor"]["step"]
    assert (steps > 0).all() and agent.gradient_steps >= steps.max() - 8


def test_son_goku_trains_one_color_a_minibatch() -> None:
    """Tasks that interfere train in turn within one rollout: every minibatch moves the heads of its color alone."""
    agent = _agent(curriculum="son-goku:anneal=1,recolor=1", epochs=1)
    agent.learn(240)
    assert agent.gradient_steps == 8
    plan = agent._rounds.plan
    # Opposed gradients of the first two tasks, and one of its own for the third.
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    for name in ("actor_tasks", "critic_tasks"):
        tracked = agent.state[name]["tracked"]
        tracked.zero_()
        tracked[0, :, :2] = rows
    rollout = agent.collect()
    plan = agent._rounds.plan
    assert plan.cycle is not None
    assert (plan.cycle > 0).tolist() == [[True, False, True], [False, True, False]]
    torch.testing.assert_close(plan.share, torch.tensor([0.25, 0.5, 0.25]).double())
    heads = agent.critic.views(agent.state["critic"]["params"], torch.float32).named[
        "head.bias"
    ]
    inputs = agent.update_inputs(rollout)
    moved = []
    for count in range(4):
        weights = inputs.progress.after(count).weights
        assert weights is not None
        moved.append((weights[0] > 0).tolist())
    assert moved == [[True, False, True], [False, True, False]] * 2
    before = heads.clone()
    metrics, _ = ppo_update(agent.state, *inputs)
    assert (heads != before).all()
    assert torch.isfinite(metrics["critic_loss"]).all()


def test_a_restored_agent_goes_on_with_the_cycle_of_colors() -> None:
    settings: dict[str, Any] = {"curriculum": "son-goku:anneal=1,recolor=1", "epochs": 1}
    agent = _agent(**settings).learn(240)
    plan = agent._rounds.plan
    cycle = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]).double()
    agent._rounds._adopt(plan._replace(cycle=cycle))
    agent._rounds.derive()
    other = _agent(**settings)
    other.load_state_dict(join_state(*_saved(agent)))
    assert other._rounds.plan.cycle is not None
    torch.testing.assert_close(other._rounds.plan.cycle, cycle)
    assert other._rounds.weights.tolist() == [[[1.5, 0.0, 1.5], [0.0, 3.0, 0.0]]]


def test_son_goku_finds_edges_with_the_settings_of_a_preset() -> None:
    """mg3 with mtppo as it ships, in short rollouts: conflicts are found well before the preset's run ends."""
    preset = resolve({"suite": "mg3", "algorithm": "mtppo", "agent.curriculum": "son-goku"})
    config = preset.agent
    rollouts = preset.total_env_steps // (3 * config.rollout_per_task)
    updates = rollouts * config.epochs * config.minibatches
    curriculum = CURRICULA.make(config.curriculum)
    # The threshold has to reach its final value early enough for colors to matter.
    assert updates > 2 * curriculum.anneal
    agent = MTPPO(
        make_vec("mg3", 4, seed=0),
        replace(config, rollout_per_task=64, width=16),
        seed=0,
        device="cpu",
    )
    agent.begin(preset.total_env_steps)
    colors = 1
    while agent.gradient_steps < curriculum.anneal + 2 * curriculum.recolor and colors == 1:
        agent.advance()
        colors = int(agent.metrics()["curriculum/colors"])
    assert colors > 1


def test_tasks_that_pause_cost_no_steps_and_keep_their_last_rollout() -> None:
    agent = _agent(curriculum="success-pacing:floor=0.5")
    agent.advance()
    assert agent._episodes is not None and agent._rollout is not None and agent.env_steps == 120
    first, episodes = agent._rollout, agent._episodes.episodes.copy()
    agent._episodes.recent_success[:] = 1, 0, 0
    agent.advance()  # decides with these rates
    agent._episodes.recent_success[:] = 1, 0, 0
    assert agent.env_steps == 240
    second, count = agent._rollout, agent._normalizer._count
    agent.advance()
    third = agent._rollout
    assert agent.env_steps == 320 and agent._normalizer._count == count + 80
    assert third.fresh is not None and third.fresh.tolist() == [[False, True, True]]
    for old, new in zip(second[:4], third[:4]):
        # Nothing terminates, and all are truncated alike.
        assert torch.equal(old[:, 0], new[:, 0]) and not torch.equal(old[:, 1], new[:, 1])
    assert second.log_prob is not None and third.log_prob is not None
    assert torch.equal(second.log_prob[:, 0], third.log_prob[:, 0])
    assert (agent._episodes.episodes - episodes).tolist() == [2, 4, 4] and not torch.equal(
        first.obs, second.obs
    )


def test_a_restored_agent_lets_the_same_tasks_pause() -> None:
    agent, other = (_agent(curriculum="success-pacing:floor=0.3") for _ in range(2))
    agent.advance()
    assert agent._episodes is not None
    agent._episodes.recent_success[:] = 1, 0, 0
    agent.advance()
    saved, env_state = join_state(*_saved(agent)), agent.env.state_dict()
    other.env.load_state_dict(env_state)
    other.load_state_dict(saved)
    for each in (agent, other):
        each.advance()
        assert each.env.paused.tolist() == [True, False, False] and each.env_steps == 320
        each.advance()
    (first, values), (second, other_values) = _saved(agent), _saved(other)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert values == other_values and "rollout/log_prob" in first


def test_a_task_that_pauses_keeps_its_memory() -> None:
    agent = MTPPO(
        make_vec("mg3", 2), memory="gru", sequence=5, curriculum="success-pacing", **SMALL
    )
    agent.advance()
    agent._episodes.recent_success[:] = 0, 1, 0  # type: ignore[union-attr]
    agent.advance()
    kept = clone(agent._memory)
    agent.advance()
    paused = np.repeat([False, True, False], 2)
    assert agent.env.paused.tolist() == [False, True, False] and kept is not None
    assert agent._memory is not None
    for old, new in zip(kept, agent._memory):
        assert torch.equal(old[paused], new[paused])
    assert not torch.equal(kept.state[~paused], agent._memory.state[~paused])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(AgentError, match="use heads=multi-head or one-hot"):
        _agent(curriculum="success-pacing", heads="separate")
    with pytest.raises(
        AgentError,
        match="'success-pacing' lets tasks pause, which MTSAC does not offer; use mtppo",
    ):
        MTSACConfig(curriculum="success-pacing")
    with pytest.raises(AgentError, match="use heads=separate"):
        _agent(curriculum="camrl")
    with pytest.raises(AgentError, match="no shared gradient"):
        _agent(heads="separate", critic_aggregator="fairgrad")
