"""The one entry point to environments: ``make_vec``."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from typing import Literal, overload

from mtrl.envs.autoreset import NextStepAutoreset
from mtrl.envs.errors import SuiteError, nearest
from mtrl.envs.seeding import check_seed
from mtrl.envs.settings import EnvSettings
from mtrl.envs.specs import Backend, Suite
from mtrl.envs.suites import backends_of, get_suite, prepare
from mtrl.envs.vector import TaskVectorEnv

COMMON = frozenset({"envs_per_task", "seed", "one_hot"})


def backends(suite: str) -> tuple[str, ...]:
    """Names of the backends that can run a suite, the default first."""
    return tuple(_able(get_suite(suite)))


def _able(spec: Suite) -> dict[str, Backend]:
    """The family's backends that have the suite's rewards."""
    able = {}
    for name, backend in backends_of(spec).items():
        if spec.reward_version in (backend.reward_versions or (spec.reward_version,)):
            able[name] = backend
    return able


@overload
def make_vec(
    suite: str | Suite,
    envs_per_task: int = 1,
    *,
    backend: str = "auto",
    seed: int = 0,
    one_hot: bool = False,
    goals: str = "random",
    goal_seed: int | None = None,
    stagger: bool = False,
    autoreset: Literal["same_step"] = "same_step",
    num_workers: int | None = None,
    num_threads: int | None = None,
    render_mode: str | None = None,
    camera: str | None = None,
    frame_size: tuple[int, int] | None = None,
) -> TaskVectorEnv: ...


@overload
def make_vec(
    suite: str | Suite,
    envs_per_task: int = 1,
    *,
    backend: str = "auto",
    seed: int = 0,
    one_hot: bool = False,
    goals: str = "random",
    goal_seed: int | None = None,
    stagger: bool = False,
    autoreset: Literal["next_step"],
    num_workers: int | None = None,
    num_threads: int | None = None,
    render_mode: str | None = None,
    camera: str | None = None,
    frame_size: tuple[int, int] | None = None,
) -> NextStepAutoreset: ...


def make_vec(
    suite: str | Suite,
    envs_per_task: int = 1,
    *,
    backend: str = "auto",
    seed: int = 0,
    one_hot: bool = False,
    goals: str = "random",
    goal_seed: int | None = None,
    stagger: bool = False,
    autoreset: str = "same_step",
    num_workers: int | None = None,
    num_threads: int | None = None,
    render_mode: str | None = None,
    camera: str | None = None,
    frame_size: tuple[int, int] | None = None,
) -> TaskVectorEnv | NextStepAutoreset:
    """Makes the task-major vector environment of a suite.

    >>> env = make_vec("mt10", envs_per_task=2, seed=1)
    >>> obs, info = env.reset()  # [20, 39]; environments 0 and 1 play reach-v3, 2 and 3 push-v3, ...
    >>> obs, reward, terminated, truncated, info = env.step(env.action_space.sample())

    Args:
        suite: id such as ``mt10``, ``mt50-v1``, ``mt1:reach-v3`` (``suite_ids()`` has all), or a specification.
        envs_per_task: environments of each task.
        backend: the engine; ``auto`` is the first of the suite's family that has its rewards, ``stock`` the original
            package. Backends give equal trajectories (Meta-World's native rewards differ in the last bits at most).
        seed: seed of all random streams. Equal seeds give equal trajectories for any number of workers or threads.
            ``reset(seed=s)`` makes the environment behave as one newly made with ``seed=s``.
        one_hot: append the task's one-hot code, ``num_tasks`` columns, to each observation.
        goals: ``random`` (each episode draws one of the task's 50 goals from the environment's own stream) or
            ``cycle`` (environment e of a task plays goals e, e + envs_per_task, e + 2 envs_per_task, ... modulo 50,
            so 50 episodes a task visit every goal once, whatever ``envs_per_task`` is).
        goal_seed: seed of the sets of 50 goals, or of the levels of evaluation; by default they follow ``seed``. In the
            suites ``...-held-out`` it names the pool of training levels.
        stagger: Meta-World only. After ``reset`` and ``rebase``, environment e of a task is truncated e/envs_per_task
            of the horizon early, once, so that its environments are in different phases of their episodes from then on:
            short rollouts then hold beginnings and ends alike. Nothing changes with one environment per task.
        autoreset: ``same_step`` (an ended episode restarts within the step, and ``info["final_obs"]`` holds its last
            observation; what our agents need) or ``next_step`` (gymnasium's contract of that name, for its observation
            wrappers). ``next_step`` does not go with ``stagger``.
        num_workers: stock backend only. Processes that share the environments, 0 for none. By default one for every
            ten environments, at most one per CPU, none if that makes fewer than two.
        num_threads: threads of a compiled backend. By default one for each CPU for Meta-World.
        render_mode: ``rgb_array`` for frames from ``render()``.
        camera: Meta-World's native backend only. ``close`` (ours, near the object) or one of Meta-World's: ``corner``,
            ``corner2``, ``corner3``, ``corner4``, ``topview``, ``behindGripper``, ``gripperPOV``; by default MuJoCo's
            free camera, as in stock.
        frame_size: Meta-World's native backend only. Width and height of frames in pixels; by default 480 x 480.

    Raises:
        SuiteError: an unknown suite, backend or setting, or one that the backend lacks.

    Wrappers of ``gymnasium.wrappers.vector``: those of actions, rewards and statistics (``RescaleAction``,
    ``ClipReward``, ``NormalizeReward``, ``RecordEpisodeStatistics``, ``DictInfoToList``) work in both modes. Those of
    observations (``TransformObservation``, ``NormalizeObservation``, ``RescaleObservation``, …) refuse ``same_step``,
    because they would leave ``final_obs`` as it is; give them ``autoreset="next_step"``.

    How Meta-World differs here from the stock ``gym.make_vec("Meta-World/MT10")``; physics, observations, rewards,
    success, horizon and task order are the same:

    * observations are float32 and lie within ``observation_space``; the stock space has goal bounds [0, 0];
    * every environment has a goal stream of its own; stock with a seed gives all tasks the same goal index in lockstep;
    * ``reset(seed=s)`` seeds; stock ignores it. Without a seed argument the seed is 0, never the clock;
    * ``envs_per_task`` is honored; stock ignores ``num_envs``;
    * ``info`` has the same keys at every step, and describes the step also where an episode ended; stock then has only
      ``final_info``, which is there too. ``final_obs`` is one float array, valid in every row;
    * ``success`` is bool; the other entries of ``info`` are float64;
    * a NaN action is an error; stock silently resets the simulation in the middle of the episode. Actions beyond
      [-1, 1] are clipped by the simulation but reach the reward as they are, as in stock;
    * episodes restart by themselves; there is no ``terminate_on_success``.
    """
    spec = get_suite(suite) if isinstance(suite, str) else suite
    settings = EnvSettings(
        envs_per_task=envs_per_task,
        seed=check_seed("seed", seed),
        one_hot=one_hot,
        goals=goals,
        goal_seed=None if goal_seed is None else check_seed("goal_seed", goal_seed),
        stagger=stagger,
        num_workers=num_workers,
        num_threads=num_threads,
        render_mode=render_mode,
        camera=camera,
        frame_size=frame_size,
    )
    _check_autoreset(autoreset, stagger)
    known, able = backends_of(spec), _able(spec)
    name = next(iter(able)) if backend == "auto" else backend
    if name not in known:
        raise SuiteError(
            f"{spec.id} has no backend {name!r}; the nearest is {nearest(str(name), known, 0.0)!r}."
        )
    if name not in able:
        version = spec.reward_version.upper()
        raise SuiteError(
            f"Backend {name!r} lacks the {version} rewards of {spec.id}; {', '.join(able)} has them."
        )
    prepare(spec, render=render_mode is not None)
    module = import_module(known[name].module)
    _check_supported(settings, name, module.OPTIONS)
    env: TaskVectorEnv = module.make(spec, settings)
    return env if autoreset == "same_step" else NextStepAutoreset(env)


def _check_autoreset(autoreset: str, stagger: bool) -> None:
    if autoreset not in ("same_step", "next_step"):
        raise SuiteError(
            f"autoreset must be one of 'same_step', 'next_step', not {autoreset!r}."
        )
    if autoreset == "next_step" and stagger:
        raise SuiteError(
            "autoreset='next_step' does not go with stagger=True; leave one of them out."
        )


def _check_supported(settings: EnvSettings, backend: str, options: frozenset[str]) -> None:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name not in COMMON | options and value != field.default:
            allowed = ", ".join(sorted(COMMON | options))
            raise SuiteError(
                f"Backend {backend!r} does not take {field.name}={value!r}; it takes {allowed}."
            )
