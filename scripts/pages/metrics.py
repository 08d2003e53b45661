"""Every logged name, with its meaning and when it is logged.

``tests/docs/test_metrics.py`` compares this table with the names that short runs write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mtrl.agents.curricula.registry import CURRICULA
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.networks.shown import MEANINGS
from mtrl.settings.config import TrainConfig
from scripts.pages.text import code, table

OURS = frozenset({"mtppo", "mtsac"})
Features = frozenset[str]


@dataclass(frozen=True)
class Metric:
    """One logged name.

    Attributes:
        key: as the agent logs it.
        meaning: one sentence.
        tasks: ``mean`` has one value for all tasks, ``both`` also one for each task, ``each`` only the latter,
            ``image`` is a matrix; ``separate`` is ``both`` where every task has networks of its own, else
            ``mean``.
        when: whether a run with these features logs it.
        condition: the same in words, empty for every run.
    """

    key: str
    meaning: str
    tasks: Literal["mean", "both", "each", "image", "separate"] = "mean"
    when: Callable[[Features], bool] = lambda features: True
    condition: str = ""

    def tags(self, features: Features) -> list[str]:
        """The names in TensorBoard, with ``<task>`` for a task's name."""
        both = self.tasks == "both" or (self.tasks == "separate" and "separate" in features)
        tags = [] if self.tasks == "each" else [self.key]
        return [*tags, self.of_task] if both or self.tasks == "each" else tags

    @property
    def of_task(self) -> str:
        """The name in TensorBoard of one task's value: in a group of that task, but for successes and shares."""
        group, _, name = self.key.partition("/")
        if group == "curriculum" or self.key == "eval/success":
            return f"{self.key}/<task>"
        return f"task <task>/{group}_{name}"


def features_of(config: TrainConfig, discrete: bool) -> Features:
    """What decides which names a run logs."""
    found = {config.algorithm, "discrete" if discrete else "continuous"}
    agent = config.agent
    if config.algorithm not in OURS:
        return frozenset(found)
    curriculum = CURRICULA.make(agent.curriculum)  # type: ignore[attr-defined]
    diagnose = agent.gradient_diagnostics  # type: ignore[attr-defined]
    found |= {"ours", f"curriculum:{curriculum.info.name}"}
    found |= {"curriculum"} if curriculum.info.name != "uniform" else set()
    found |= {"couples"} if curriculum.info.couples else set()
    found |= {"separate"} if agent.heads == "separate" else set()  # type: ignore[attr-defined]
    for role, body in zip(("actor", "critic"), agent.networks):  # type: ignore[attr-defined]
        for name, shown in body.shown.items():
            if shown.is_of_single_tasks or "separate" not in found:
                found.add(f"{role}:shows {name}{'_<layer>' if shown.by_layer else ''}")
    masks = any(body.masks_tasks for body in agent.networks)  # type: ignore[attr-defined]
    found |= {"masks"} if masks else set()
    for network, aggregator in zip(("actor", "critic"), agent.aggregators):  # type: ignore[attr-defined]
        info, track = aggregator.info, curriculum.info.gramian
        forms = (
            bool(info.needs & {"gramian", "jacobian", "cross_gramian"}) or info.direction_only
        )
        if info.name == "mean" and not (track or diagnose):
            continue
        forms = forms or track or diagnose
        weights = not info.direction_only
        found |= {f"{network}:weights"} if weights else set()
        found |= {f"{network}:gradients"} if forms else set()
        found |= {f"{network}:gramian"} if "gramian" in info.needs or diagnose else set()
        moves = "perturbed_jacobian" in info.needs
        found |= {f"{network}:flat"} if moves and "flat-minima" in info.name else set()
        found |= {f"{network}:ahead"} if moves and "look-ahead" in info.name else set()
        found |= {f"{network}:diagnosed"} if diagnose else set()
        found |= {f"{network}:gains"} if diagnose and weights else set()
    return frozenset(found)


def metrics_of(features: Features) -> list[Metric]:
    """The names that a run with these features logs."""
    return [metric for metric in METRICS if metric.when(features)]


def tags_of(features: Features) -> set[str]:
    """Every name in TensorBoard of a run with these features, with ``<task>`` for a task's name."""
    return {tag for metric in metrics_of(features) for tag in metric.tags(features)}


def metrics_table(features: Features | None = None) -> str:
    """The names of a run, or with None every name there is and when it is logged."""
    rows = []
    for metric in METRICS if features is None else metrics_of(features):
        tags = metric.tags(features or frozenset())
        row = ["<br>".join(code(tag) for tag in tags), metric.meaning]
        rows.append(row if features is not None else [*row, metric.condition or "always"])
    head = ["name in TensorBoard", "meaning"]
    return table(head if features is not None else [*head, "logged"], rows)


def _has(*wanted: str) -> Callable[[Features], bool]:
    return lambda features: bool(features & set(wanted))


_OURS = {"when": _has("ours"), "condition": "`mtppo`, `mtsac`"}
_PPO = {"when": _has("mtppo"), "condition": "`mtppo`"}
_SAC = {"when": _has("mtsac"), "condition": "`mtsac`"}
_SB3_PPO = {"when": _has("sb3-ppo"), "condition": "`sb3-ppo`"}
_SB3_SAC = {"when": _has("sb3-sac"), "condition": "`sb3-sac`"}


def _about_gradients(network: str) -> list[Metric]:
    """What the gradient method of one network logs."""

    def own(feature: str, words: str) -> dict[str, object]:
        return {"when": _has(f"{network}:{feature}"), "condition": words}

    of = f"the {network}'s task gradients"
    formed = own("gradients", "gradient methods that form each task's gradient")
    diagnosed = own("diagnosed", "`gradient_diagnostics: true`")
    return [
        Metric(f"train/{network}_task_weight", f"Weight of a task's gradient in the {network}'s update.", "both",
               **own("weights", "gradient methods that weight tasks")),
        Metric(f"train/{network}_residual", "Error of the gradient method's equations at its solution.", **formed),
        Metric(f"train/{network}_solve_failures", "Share of updates whose solution missed the tolerance.", **formed),
        Metric(f"train/{network}_conflict_rate", f"Share of pairs of {of} with a negative inner product.",
               **own("gramian", "gradient methods that need the Gramian, or `gradient_diagnostics: true`")),
        Metric(f"train/{network}_magnitude_similarity", f"How alike the norms of {of} are; 1 is equal.",
               **own("gramian", "gradient methods that need the Gramian, or `gradient_diagnostics: true`")),
        Metric(f"train/{network}_sharpness", "Rise of a task's loss at the perturbed parameters.", "both",
               **own("flat", "`flat_minima`")),
        Metric(f"train/{network}_outer_loss", "A task's loss after its own step, on the samples kept for it.", "both",
               **own("ahead", "`look_ahead`")),
        Metric(f"train/{network}_inverse_condition_number", f"1 over the condition number of the Gramian of {of}.",
               **diagnosed),
        Metric(f"train/{network}_gain", "First-order decrease of a task's loss by the update.", "both",
               **own("gains", "`gradient_diagnostics: true`")),
        Metric(f"train/{network}_cosines", f"Cosines of {of}, in the suite's order: -1 is black, 0 gray, 1 white.",
               "image", **diagnosed),
    ]  # type: ignore[arg-type]  # fmt: skip


def _of_curriculum(key: str, meaning: str, *names: str, tasks: str = "each") -> Metric:
    return Metric(
        f"curriculum/{key}",
        meaning,
        tasks,  # type: ignore[arg-type]
        _has(*(f"curriculum:{name}" for name in names)),
        "curriculum " + ", ".join(code(name) for name in names),
    )


_CAMRL = ("camrl", "camrl-shared")


def _about_coupling(network: str) -> list[Metric]:
    """What a coupled round logs of one network."""
    when = {"when": _has("couples"), "condition": "coupled rounds of `camrl`, `camrl-shared`"}
    return [
        Metric(f"train/{network}_pull_norm", f"Norm of what the coupling adds to the {network}'s gradient.",
               "separate", **when),
        Metric(f"train/{network}_unpulled_norm", f"Norm of the {network}'s gradient before the coupling adds to it.",
               "separate", **when),
    ]  # type: ignore[arg-type]  # fmt: skip


def _about_networks() -> list[Metric]:
    """The images that networks show of themselves."""
    showing: dict[str, list[str]] = {}
    for network in NETWORKS:
        for name, shown in NETWORKS.make(network).shown.items():
            key = f"{name}_<layer>" if shown.by_layer else name
            showing.setdefault(key, []).append(code(network))
    found = []
    for key, networks in sorted(showing.items()):
        for role in ("actor", "critic"):
            meaning = MEANINGS[key.removesuffix("_<layer>")]
            when = _has(f"{role}:shows {key}")
            condition = f"networks {', '.join(networks)}"
            metric = Metric(f"network/{role}_{key}", meaning, "image", when, condition)
            found.append(metric)
    return found


_COUNTED = "of the training episodes that ended since the last log point"
METRICS: tuple[Metric, ...] = (
    Metric("eval/mean_success", "Mean over tasks of the success rate in an evaluation: the reported number."),
    Metric("eval/success", "A task's success rate in an evaluation: any step counts on Meta-World.", "each"),
    Metric("eval/final_step_success", "A task's share of evaluation episodes whose last step was a success.", "each"),
    Metric("eval/return", "A task's mean undiscounted return in an evaluation.", "each"),
    Metric("eval/length", "A task's mean episode length in an evaluation, in steps.", "each"),
    Metric("rollout/success_rate", f"Mean over tasks of the success rate {_COUNTED}; exploration included."),
    Metric("rollout/success", f"A task's success rate {_COUNTED}.", "each"),
    Metric("rollout/ep_rew_mean", f"Mean over tasks of the return {_COUNTED}."),
    Metric("rollout/ep_len_mean", f"Mean over tasks of the length {_COUNTED}."),
    Metric("time/env_steps_per_second", "Env steps, summed over tasks, per second since the last log point."),
    Metric("time/gradient_steps", "Optimizer updates so far."),
    Metric("time/wall_s", "Seconds of wall clock that the run has taken so far, pauses between processes left out."),
    Metric("train/actor_loss", "MTPPO: the clipped surrogate, without the entropy bonus. MTSAC: minus the soft value.",
           "both", **_OURS),
    Metric("train/critic_loss", "Squared error of the critic; under PopArt on the normalized scale.", "both", **_OURS),
    Metric("train/entropy", "Entropy of the policy in nats, for MTSAC estimated from its samples.", "both", **_OURS),
    Metric("train/actor_grad_norm", "Norm of the actor's gradient before it is clipped.", "separate", **_OURS),
    Metric("train/critic_grad_norm", "Norm of the critic's gradient before it is clipped.", "separate", **_OURS),
    Metric("train/actor_shared_clip", "Clip factor of the actor's shared parameters.", "separate", **_OURS),
    Metric("train/actor_owned_clip", "Factor of the clip of the actor's gradient of what each task owns.",
           when=lambda own: "ours" in own and "separate" not in own, condition="heads of the tasks' own"),
    Metric("train/critic_shared_clip", "Clip factor of the critic's shared parameters.", "separate", **_OURS),
    Metric("train/critic_owned_clip", "Factor of the clip of the critic's gradient of what each task owns.",
           when=lambda own: "ours" in own and "separate" not in own, condition="heads of the tasks' own"),
    Metric("train/masked", "Share of updates that left a task out, because its loss was too large.", "both",
           when=_has("masks"), condition="networks that mask tasks"),
    Metric("train/approx_kl", "Divergence of the policy from the one that collected, in nats; `kl_stop` limits it.",
           "both", **_PPO),
    Metric("train/clip_fraction", "Share of samples whose ratio was out of the clip range.", "both", **_PPO),
    Metric("train/explained_variance", "Share of the returns' variance that the critic explains.", "both", **_PPO),
    Metric("train/value", "Mean value estimate in the rollout, on the scale of returns.", "both", **_PPO),
    Metric("train/epochs", "Passes over the last rollout before `kl_stop` ended them.", "separate", **_PPO),
    Metric("train/learning_rate", "Adam's step size, which the schedule moves.", "separate", **_PPO),
    Metric("train/q_value", "Mean of both critics at the actions of the batch.", "both", **_SAC),
    Metric("train/alpha", "Entropy temperature.", "both", **_SAC),
    *_about_gradients("actor"),
    *_about_gradients("critic"),
    *_about_coupling("actor"),
    *_about_coupling("critic"),
    *_about_networks(),
    Metric("curriculum/round", "Rounds so far.", when=_has("curriculum"), condition="every curriculum but `uniform`"),
    Metric("curriculum/share", "A task's share of the gradient in this round; shares sum to 1.", "each",
           _has("curriculum"), "every curriculum but `uniform`"),
    _of_curriculum("order", "The task's position in the last coupled round.", *_CAMRL),
    _of_curriculum("multi_task_mode", "1 in a coupled round, 0 in a single-task round.", *_CAMRL, tasks="mean"),
    _of_curriculum("indicator", "CAMRL's mode indicator: the mean of the three terms below.", *_CAMRL, tasks="mean"),
    _of_curriculum("indicator_extremes", "Its first term: share of tasks out of their usual range.", *_CAMRL,
                   tasks="mean"),
    _of_curriculum("indicator_youth", "Its second term, which decays with the rounds.", *_CAMRL, tasks="mean"),
    _of_curriculum("indicator_performance", "Its third term, from standardized performance.", *_CAMRL, tasks="mean"),
    _of_curriculum("transfer", "The transfer matrix B: rows send, columns receive, in the suite's order.", *_CAMRL,
                   tasks="image"),
    _of_curriculum("mastering_rate", "How far a task is mastered, in [0, 1].", "mrcl"),
    _of_curriculum("learning_progress", "How much a task's return moved lately.", "learning-progress"),
    _of_curriculum("competence_progress", "How much a task's success rate moved lately.", "competence-progress"),
    _of_curriculum("gap", "A task's gap: 1 minus its success rate, or its distance from the best return.", "drats"),
    _of_curriculum("color", "The task's color in the graph of interfering tasks.", "son-goku"),
    _of_curriculum("colors", "Number of colors.", "son-goku", tasks="mean"),
    _of_curriculum("tau", "Cosine below whose negative two tasks interfere.", "son-goku", tasks="mean"),
    _of_curriculum("group", "The group that a task trains in.", "task-grouping"),
    _of_curriculum("rate", "The share of rounds in which a task collects.", "success-pacing"),
    Metric("train/loss", "SB3's total loss in the last minibatch.", **_SB3_PPO),
    Metric("train/policy_gradient_loss", "SB3's clipped surrogate.", **_SB3_PPO),
    Metric("train/value_loss", "SB3's value loss.", **_SB3_PPO),
    Metric("train/entropy_loss", "Minus the policy's mean entropy.", **_SB3_PPO),
    Metric("train/approx_kl", "SB3's estimate of the divergence from the old policy.", **_SB3_PPO),
    Metric("train/clip_fraction", "Share of samples whose ratio lies outside the clip range.", **_SB3_PPO),
    Metric("train/clip_range", "The clip range.", **_SB3_PPO),
    Metric("train/explained_variance", "Share of the returns' variance that the value explains.", **_SB3_PPO),
    Metric("train/std", "Mean standard deviation of the actions.", when=lambda own: {"sb3-ppo", "continuous"} <= own,
           condition="`sb3-ppo`, continuous actions"),
    Metric("train/learning_rate", "Adam's step size.", when=_has("sb3-ppo", "sb3-sac"), condition="SB3's agents"),
    Metric("train/actor_loss", "SB3's actor loss.", **_SB3_SAC),
    Metric("train/critic_loss", "SB3's critic loss.", **_SB3_SAC),
    Metric("train/ent_coef", "Entropy temperature.", **_SB3_SAC),
    Metric("train/ent_coef_loss", "Loss of the entropy temperature, where it is learned.", **_SB3_SAC),
)  # type: ignore[arg-type]  # fmt: skip
