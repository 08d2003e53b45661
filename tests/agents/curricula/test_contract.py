"""What holds for every curriculum, by its name in the registry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.agents.curricula import CURRICULA, make_curriculum, parse_curriculum
from mtrl.agents.errors import AgentError
from tests.agents.curricula.cases import random_statistics, tasks

NAMES = sorted(CURRICULA)
EDGES = ((1, 0), (2, 1))


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.integers(1, 30))
def test_shares_are_shares_and_nothing_is_changed_in_place(
    name: str, seed: int, rounds: int
) -> None:
    curriculum, case = make_curriculum(name), tasks(EDGES)
    state = curriculum.init(case)
    for number in range(rounds):
        before = {key: value.clone() for key, value in state.items()}
        stats = random_statistics(1000 * seed + number)
        noise = torch.rand(
            curriculum.draws,
            generator=torch.Generator().manual_seed(number),
            dtype=torch.float64,
        )
        plan, new = curriculum.plan(stats, state, noise, case)
        assert plan.share.shape == (4,) and (plan.share >= 0).all()
        assert plan.share.sum().item() == pytest.approx(1.0)
        assert not plan.coupled or curriculum.info.couples
        assert (plan.active is not None) == curriculum.info.paces
        assert plan.active is None or (plan.active.dtype == torch.bool and plan.active.any())
        assert all(torch.equal(state[key], value) for key, value in before.items())
        assert new.keys() == state.keys() and all(
            new[key].shape == value.shape for key, value in state.items()
        )
        assert all(torch.isfinite(value.double()).all() for value in plan.log.values())
        state = new


@pytest.mark.parametrize("name", NAMES)
def test_the_next_decision_depends_on_state_and_statistics_alone(name: str) -> None:
    case = tasks(EDGES)
    first, second = make_curriculum(name), make_curriculum(name)
    noise = torch.zeros(first.draws, dtype=torch.float64)
    state = first.init(case)
    for number in range(12):
        _, state = first.plan(random_statistics(number), state, noise, case)
    plans = [
        c.plan(random_statistics(99), state, noise, case)[0] for c in (first, second, first)
    ]
    assert all(torch.equal(plan.share, plans[0].share) for plan in plans)


@pytest.mark.parametrize("name", NAMES)
def test_describes_itself_and_parses_back(name: str) -> None:
    assert parse_curriculum(name) == make_curriculum(name)
    assert parse_curriculum(f"{name}:round_steps=7").round_steps == 7
    assert make_curriculum(name).info.source


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("camr", "curriculum: 'camr' is unknown; did you mean 'camrl'"),
        ("camrl:lamda3=0", "curriculum.lamda3: unknown setting; did you mean 'lambda3'"),
        ("camrl:lambda3=-1", "lambda3=-1.0 is not allowed; it must be at least 0"),
        ("camrl:combination=half", "one of convex, printed"),
        ("camrl:steps=1.5", "steps: '1.5' is not a whole number"),
        ("mrcl:window", "'window' in 'mrcl:window' is not of the form key=value"),
        ("mrcl:delta_pred=0.9,delta_succ=0.2", "delta_pred=0.9"),
        ("competence-progress:window=5", "an even number"),
        ("success-focal:floor=2", "floor=2.0"),
        (
            "success-pacing:margin=0",
            "margin=0.0 is not allowed; it must be greater than 0 and at most 1",
        ),
        (
            "success-pacing:floor=2",
            "floor=2.0 is not allowed; it must be greater than 0 and at most 1",
        ),
        ("uniform:round_steps=0", "round_steps=0 is not allowed; it must be at least 1"),
        ("camrl:switch=maybe", "switch: 'maybe' is not true or false"),
        ("camrl:a=nan", "a finite number"),
    ],
)
def test_bad_descriptions_get_one_sentence(text: str, message: str) -> None:
    with pytest.raises(AgentError) as error:
        parse_curriculum(text)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_prior_that_names_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(AgentError, match="prior: 'pusch' is unknown; did you mean 'push'"):
        parse_curriculum("camrl:prior=reach/pusch").check(tasks())
    with pytest.raises(AgentError, match="names no task twice"):
        parse_curriculum("camrl:prior=reach/push/reach").check(tasks())
    with pytest.raises(AgentError, match="groups=9 is not allowed"):
        parse_curriculum("task-grouping:groups=9").check(tasks())
