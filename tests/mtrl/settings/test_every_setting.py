"""Every setting that a result file records changes something: each is changed in a small run, alone.

The changed run must differ in what it learned, logged or evaluated, or be refused with a sentence. Settings that say
how fast or where a run goes must change none of these. A setting that the tables below do not name fails the first
test.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import numpy as np
import pytest

from mtrl.agents import MTPPO, MTSAC, Agent
from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.curricula.registry import CURRICULA
from mtrl.agents.errors import AgentError
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.settings import Registry, Setting, settings_of
from mtrl.agents.state import split_state
from mtrl.envs import SuiteError, TaskVectorEnv, make_vec
from mtrl.errors import ConfigError
from mtrl.sb3 import SB3PPO, SB3SAC
from mtrl.settings.algorithms import settings_class
from mtrl.settings.config import TrainConfig
from mtrl.trainer import train
from tests.helpers import fakes
from tests.helpers.runs import final_state
from tests.mtrl.conftest import ShortConfig

Values = dict[str, Any]


class Change(NamedTuple):
    """Another value of a setting, and what else both runs need for it to matter."""

    value: Any
    context: Values = {}  # noqa: RUF012 - never written to


GRU = {"suite": "mg3", "memory": "gru", "sequence": 5, "total": 240}
COMMON: dict[str, Change] = {
    "heads": Change("one-hot"),
    "width": Change(9),
    "depth": Change(1),
    "network": Change("moore"),
    "actor_network": Change("moore"),
    "critic_network": Change("moore"),
    "channels": Change(5, {"suite": "mg3", "total": 240}),
    "learning_rate": Change(0.002),
    "adam_eps": Change(0.1),
    "max_grad_norm": Change(0.01),
    "clip_apart": Change(True, {"max_grad_norm": 0.01}),
    "weight_decay": Change(0.1),
    "gamma": Change(0.5),
    "aggregator": Change("sum"),
    "actor_aggregator": Change("pcgrad"),
    "critic_aggregator": Change("pcgrad"),
    "curriculum": Change("drats:round_steps=10"),
    "replay": Change("prioritised"),
    "sample_weighting": Change("rmtl"),
    "gradient_diagnostics": Change(True),
    "precision": Change("bf16", {"precision": "fp32"}),
}
OF_PPO: dict[str, Change] = {
    "memory": Change("gru", {"suite": "mg3", "sequence": 5, "total": 240}),
    "sequence": Change(10, GRU),
    "actor_activation": Change("relu"),
    "critic_activation": Change("tanh"),
    "deterministic_action": Change("mean", {"initial_std": 2.0}),
    "initial_std": Change(0.5),
    "noise_correlation": Change(0.9),
    "noise_until": Change(0.5),
    "noise_by_failure": Change(True),
    "std_learning_rate": Change(0.1),
    "schedule": Change("constant"),
    "gae_lambda": Change(0.1),
    "clip": Change(0.01, {"learning_rate": 0.01}),
    "entropy_coef": Change(0.5),
    "rollout_per_task": Change(60),
    "epochs": Change(3),
    "minibatches": Change(4),
    "kl_stop": Change(1e-9),
    "normalize_advantages": Change(False),
    "advantage_floor": Change(100.0),
    "popart_step": Change(None),
    "normalize_obs": Change(False),
    "curriculum": Change("drats"),
}
OF_SAC: dict[str, Change] = {
    "tau": Change(0.5),
    "max_reward": Change(0.01),
    "initial_alpha": Change(0.1),
    "target_entropy": Change(-9.0),
    "batch_per_task": Change(9),
    "buffer_per_task": Change(20),
    "learning_starts": Change(30),
    "utd_ratio": Change(0.5),
    "value": Change("categorical:atoms=11"),
    "target_twins": Change("mean"),
    "actor_twins": Change("first"),
    "reward_scale": Change("return"),
    "resets": Change(1),
    "reset_updates": Change(3, {"resets": 1}),
    "shared_alpha": Change(True),
    "temperature_weights": Change(True),
}
OF_SB3_PPO: dict[str, Change] = {
    "net_arch": Change((9,)),
    "learning_rate": Change(0.002),
    "n_steps": Change(10),
    "batch_size": Change(20),
    "n_epochs": Change(3),
    "gamma": Change(0.5),
    "gae_lambda": Change(0.1),
    "clip_range": Change(0.01, {"learning_rate": 0.01}),
    "clip_range_vf": Change(0.001),
    "normalize_advantage": Change(False),
    "ent_coef": Change(0.5),
    "vf_coef": Change(0.1),
    "max_grad_norm": Change(0.01),
    "target_kl": Change(1e-9),
}
OF_SB3_SAC: dict[str, Change] = {
    "net_arch": Change((9,)),
    "learning_rate": Change(0.002),
    "buffer_size": Change(60),
    "learning_starts": Change(60),
    "batch_size": Change(9),
    "tau": Change(0.5),
    "gamma": Change(0.5),
    "train_freq": Change(2),
    "gradient_steps": Change(2),
    "ent_coef": Change(0.1),
    "target_entropy": Change(-9.0),
    # SB3 counts updates anew in each training.
    "target_update_interval": Change(2, {"gradient_steps": 2}),
}
SMALL: dict[str, Values] = {
    "mtppo": {"width": 8, "rollout_per_task": 40, "minibatches": 2, "epochs": 2},
    "mtsac": {"width": 8, "depth": 2, "learning_starts": 20, "batch_per_task": 8},
    "sb3-ppo": {"net_arch": (8,), "n_steps": 20, "batch_size": 15, "n_epochs": 2, "total": 360},
    "sb3-sac": {"net_arch": (8,), "learning_starts": 30, "batch_size": 8, "total": 240},
}
AGENTS: dict[str, type[Agent]] = {
    "mtppo": MTPPO,
    "mtsac": MTSAC,
    "sb3-ppo": SB3PPO,
    "sb3-sac": SB3SAC,
}
CHANGES = {
    "mtppo": COMMON | OF_PPO,
    "mtsac": COMMON | OF_SAC,
    "sb3-ppo": OF_SB3_PPO,
    "sb3-sac": OF_SB3_SAC,
}
CASES = [(algorithm, key) for algorithm, changes in CHANGES.items() for key in changes]


@cache
def _env(suite: str) -> TaskVectorEnv:
    return fakes.make_vec(suite, 2, seed=0) if "fake" in suite else make_vec(suite, 2, seed=0)


def learned(algorithm: str, values: Values) -> dict[str, Any]:
    """All that a small run comes to: its tensors, what it logs, and the actions that it would be evaluated by."""
    given = SMALL[algorithm] | values
    suite, total = given.pop("suite", "mt10:fake"), given.pop("total", 600)
    env = _env(suite)
    agent = AGENTS[algorithm](env, seed=3, device="cpu", **given).learn(total)
    tensors, _ = split_state(agent.state_dict())
    shown: dict[str, Any] = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    shown |= {"env_steps": agent.env_steps, **agent.metrics()}
    obs = env.reset(seed=5)[0]
    actions, _ = agent.predict(obs, deterministic=True, task_id=env.task_id)
    return shown | {"actions": np.asarray(actions).tobytes()}


_KEPT: dict[str, dict[str, Any]] = {}


def before(algorithm: str, values: Values) -> dict[str, Any]:
    """``learned``, once for equal values."""
    key = f"{algorithm} {sorted(values.items())}"
    if key not in _KEPT:
        _KEPT[key] = learned(algorithm, values)
    return _KEPT[key]


@pytest.mark.parametrize("algorithm", CHANGES)
def test_the_tables_name_every_setting(algorithm: str) -> None:
    assert CHANGES[algorithm].keys() == settings_of(settings_class(algorithm)).keys()
    assert OF_RUNS.keys() | IDLE.keys() | {"stagger", "declaration"} == settings_of(
        TrainConfig
    ).keys() - {"agent"}


@pytest.mark.parametrize(("algorithm", "key"), CASES, ids=[" ".join(case) for case in CASES])
def test_a_setting_of_an_agent_changes_the_run(algorithm: str, key: str) -> None:
    change = CHANGES[algorithm][key]
    usual = before(algorithm, change.context)
    assert learned(algorithm, change.context | {key: change.value}) != usual


def test_equal_settings_learn_the_same() -> None:
    """Without this the tests above would pass whatever a setting does."""
    for algorithm in CHANGES:
        assert learned(algorithm, {}) == before(algorithm, {})


# Settings of the run itself.

OF_RUNS: dict[str, Any] = {
    "suite": "mt1:fake",
    "algorithm": "mtsac",
    "method": "other.yaml",
    "seed": 1,
    "total_env_steps": 660,
    "envs_per_task": 2,
    "backend": "stock",
    "goals": "cycle",
    "goal_seed": 7,
    "eval.every": 300,
    "eval.episodes_per_task": 5,
    "eval.seed": 9,
    "checkpoint_every": 300,
    "log_every": 120,
}
IDLE: dict[str, Any] = {
    "device": "auto",
    "graph": "off",
    "run_dir": "elsewhere",
    "num_workers": 1,
    "num_threads": 1,
    "torch_threads": 1,
    "eval.envs_per_task": 1,
    "tensorboard": True,
}
"""Settings that say where a run goes, how fast, or what is shown of it."""


def _ran(config: TrainConfig) -> tuple[Any, ...]:
    """Tensors, values and checkpoints at the end of a run, without clocks, threads and folders."""
    record = train(config)
    tensors, values = final_state(config.folder)
    saved = sorted(path.name for path in (config.folder / "checkpoints").iterdir())
    return tensors, _rounded(values), saved, record["protocol"]["eval_seed"]


def _rounded(value: Any) -> Any:
    """Means of returns depend on the order of the episodes in their last digit."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 9) if isinstance(value, float) else value


@pytest.fixture
def usual(short_config: ShortConfig) -> tuple[Any, ...]:
    return _ran(short_config("usual"))


@pytest.mark.parametrize("key", OF_RUNS)
def test_a_setting_of_a_run_changes_it(
    key: str, usual: tuple[Any, ...], short_config: ShortConfig, tmp_path: Path
) -> None:
    value = OF_RUNS[key]
    if key == "method":
        value = str(tmp_path / "other.yaml")
        Path(value).write_text("algorithm: fake\nagent.learning_rate: 0.5\n", encoding="utf-8")
    try:
        changed = _ran(short_config("changed", **{key.replace(".", "__"): value}))
    except (ConfigError, SuiteError) as refusal:
        assert key == "backend" and "'stock'" in str(refusal)
        return
    assert changed != usual


@pytest.mark.parametrize("key", IDLE)
def test_a_setting_of_the_machine_changes_no_number(
    key: str, usual: tuple[Any, ...], short_config: ShortConfig, tmp_path: Path
) -> None:
    value = str(tmp_path / "elsewhere") if key == "run_dir" else IDLE[key]
    values = {"run_dir": str(tmp_path / "changed"), key.replace(".", "__"): value}
    assert _ran(short_config(**values)) == usual


def test_stagger_is_refused_where_it_does_nothing() -> None:
    """What it does to episodes on Meta-World stands in the tests of these environments."""
    with pytest.raises(SuiteError, match="stagger"):
        make_vec("mg3", 2, seed=0, stagger=True)


# Settings of the methods that a setting chooses.

OUTER = {"ridge": 0.5, "subset": 2, "rescale": "mean-norm", "ema": 0.5, "every": 2, "weighting": "uncertainty",
         "flat_minima": 0.5, "look_ahead": 0.5, "look_ahead_eta": 0.1, "look_ahead_inner": 0.5,
         "free": 1, "free_end": 2, "free_period": 2, "sparse": 3}  # fmt: skip
"""Other values of the settings that go with every gradient method."""
BESIDE: dict[str, Values] = {
    "free_period": {"free": 1},
    "look_ahead_inner": {"look_ahead": 0.5},
}
"""What else they need to matter."""
COUPLED = {"round_steps": 10, "warmup": 0, "switch": False}
CONTEXTS: dict[str, Values] = {
    "ega": {"period": 2, "warmup": 1},
    "dwa": {"period": 2},
    "igb-v1": {"period": 2},
    "igb-v2": {"period": 2, "start": 1, "hidden": 4, "batch": 4},
    "lbtw": {"period": 2},
    "camrl": COUPLED,
    "camrl-shared": COUPLED,
    "mrcl": {"round_steps": 10, "window": 3},
    "success-focal": {"round_steps": 10},
    "learning-progress": {"round_steps": 10, "window": 3},
    "competence-progress": {"round_steps": 10, "window": 4},
    "drats": {"round_steps": 10},
    "son-goku": {"recolor": 5, "anneal": 20},
    "task-grouping": {"round_steps": 10, "window": 3, "regroup": 2},
}
"""Settings that a small run needs to get past a method's first measurements."""
ORDER = {"prior": "task-1/task-0"}
SPECIAL: dict[str, tuple[Any, Values]] = {
    "camrl.lambda2": (5.0, ORDER),
    "camrl.prior": ("task-1/task-0", {}),
    "camrl.learning_rate": (0.5, {"weighting": "learned"}),
    "camrl.a": (0.1, {"switch": True}),
    "camrl.b": (9.0, {"switch": True}),
    "camrl.c": (0.01, {"switch": True}),
    "cagrad-fast.n": (3, {"n": 2}),
    "aligned-mtl.preference": ("task-1:5", {}),
    "gradnorm.floor": (0.99, {}),
    "competence-progress.window": (8, {}),
    "son-goku.round_steps": (6, {}),
    "sam-gs.gamma": (0.9, {}),
    "sam-gs.test": ("any", {"gamma": 0.5}),
    "gls.floor": (10.0, {}),
    "yolor.units": (5, {"mode": "concatenate"}),
    "home.groups": ("0/0/1", {}),
    "hierarchical.layers": ("1/2/2", {}),
    "ltb.warmup": (0.4, {}),
    "simba.units": (6, {}),
    "simba-v2.units": (6, {}),
    "bro.units": (6, {}),
    "paco.loss_limit": (1.0, {}),
}
"""By ``name.setting``: a value where not every one is allowed, and what else it needs to matter."""


LEFT_OUT = {
    # Most steps of a solver; three tasks need fewer.
    *(("upgrad", "pivots"), ("dualproj", "pivots")),
    # Factors of the tasks that a task builds on; the fake tasks build on none. tests/agents/curricula has a graph.
    *(("mrcl", "power"), ("mrcl", "delta_pred"), ("mrcl", "delta_succ")),
    # No fake task succeeds so often that it rests, and none is colored anew within so few updates.
    *(("success-pacing", "margin"), ("success-pacing", "floor"), ("son-goku", "anneal")),
    # What the heads alone are coupled by is what whole agents are coupled by.
    *(("camrl-shared", key) for key in CURRICULA.settings("camrl")),
}
"""Settings that cannot matter in a run of three fake tasks."""


def _written(name: str, values: Values) -> str:
    """A choice as text."""
    texts = [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in values.items()
    ]
    return ":".join(filter(None, [name, ",".join(texts)]))


def _named(hint: Any) -> tuple[Any, ...]:
    """The values that a hint names one by one."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(value for part in get_args(hint) for value in _named(part))


def _other(value: Any, setting: Setting) -> Any:
    """Another value that is allowed."""
    if isinstance(value, bool):
        return not value
    if _named(setting.hint):
        return next(each for each in _named(setting.hint) if each != value)
    if isinstance(value, int):
        return value + 1
    return value / 2 if value else 0.5


def _changed(registry: Registry[Any], name: str, key: str) -> tuple[str, str]:
    """A method as text, before and after a change of one of its settings."""
    known = registry.settings(name)
    # success-focal is a gradient method and a curriculum.
    context = {own: value for own, value in CONTEXTS.get(name, {}).items() if own in known}
    value, more = SPECIAL.get(f"{name}.{key}", (None, {}))
    context = context | more
    if value is None:
        value = _other(context.get(key, known[key].default), known[key])
    return _written(name, context), _written(name, context | {key: value})


def _own(registry: Registry[Any]) -> list[tuple[str, str]]:
    every = [(name, key) for name in registry for key in registry.settings(name)]
    return [
        (name, key) for name, key in every if key not in OUTER and (name, key) not in LEFT_OUT
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), _own(AGGREGATORS))
def test_a_setting_of_a_gradient_method_changes_the_run(name: str, key: str) -> None:
    usual, changed = _changed(AGGREGATORS, name, key)
    assert learned("mtsac", {"critic_aggregator": changed}) != before(
        "mtsac", {"critic_aggregator": usual}
    )


@pytest.mark.parametrize("key", OUTER)
def test_a_setting_around_gradient_methods_changes_the_run(key: str) -> None:
    beside = BESIDE.get(key, {})
    changed = _written("cagrad", beside | {key: OUTER[key]})
    assert AGGREGATORS.settings("cagrad").keys() - {"c"} == OUTER.keys()
    usual = before("mtsac", {"critic_aggregator": _written("cagrad", beside)})
    assert learned("mtsac", {"critic_aggregator": changed}) != usual


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), _own(CURRICULA))
def test_a_setting_of_a_curriculum_changes_the_run(name: str, key: str) -> None:
    info = CURRICULA[name]().info
    algorithm = "mtppo" if info.paces else "mtsac"
    heads = {} if "multi-head" in info.heads else {"heads": "separate"}
    usual, changed = _changed(CURRICULA, name, key)
    reference = before(algorithm, heads | {"curriculum": usual})
    if algorithm == "mtppo" and key == "round_steps":
        with pytest.raises(AgentError, match="round_steps=501 does nothing"):
            learned(algorithm, heads | {"curriculum": changed})
        return
    assert (learned(algorithm, heads | {"curriculum": changed}) == reference) == (
        name == "uniform"
    )


@pytest.mark.parametrize(("name", "key"), _own(NETWORKS))
def test_a_setting_of_an_architecture_changes_the_run(name: str, key: str) -> None:
    usual, changed = _changed(NETWORKS, name, key)
    # Two rollouts: what the first update changed decides what is collected next. Five, where the share of training
    # counts, which is that at which a rollout began.
    short = {"total": 600 if NETWORKS[name].uses_share else 240}
    before_change = before("mtppo", {"network": usual} | short)
    assert learned("mtppo", {"network": changed} | short) != before_change
