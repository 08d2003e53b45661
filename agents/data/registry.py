"""Scales of rewards, weightings and draws of samples by name; a class is imported when its settings are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from mtrl.agents.settings import Choice, Entry, Registry

if TYPE_CHECKING:
    from mtrl.agents.data.priorities import Sampling
    from mtrl.agents.data.rewards import RewardScale
    from mtrl.agents.data.weighting import SampleWeighting

REWARD_SCALES: Registry[RewardScale] = Registry(
    "reward scale",
    {
        "none": Entry("mtrl.agents.data.rewards:Plain", "Rewards as they are."),
        "return": Entry(
            "mtrl.agents.data.rewards:ReturnScale",
            "Divides by the task's largest return (Nauman et al. 2025).",
        ),
        "balance": Entry(
            "mtrl.agents.data.rewards:RewardBalance",
            "Multiplies up to the best task's mean reward, at resets (ARS).",
        ),
    },
)
SAMPLE_WEIGHTINGS: Registry[SampleWeighting] = Registry(
    "sample weighting",
    {
        "none": Entry("mtrl.agents.data.weighting:Equal", "All samples count the same."),
        "rmtl": Entry(
            "mtrl.agents.data.weighting:RMTL",
            "Samples of low value count more in the actor's loss (Liu et al. 2023).",
        ),
    },
)
SAMPLINGS: Registry[Sampling] = Registry(
    "replay",
    {
        "uniform": Entry("mtrl.agents.data.priorities:Uniform", "All samples are as likely."),
        "prioritised": Entry(
            "mtrl.agents.data.priorities:Prioritised",
            "Samples of large error are likelier and count less (Schaul et al. 2016).",
        ),
    },
)
SamplingChoice = Annotated[Choice, BeforeValidator(SAMPLINGS.choice), SAMPLINGS]
SampleWeightingChoice = Annotated[
    Choice, BeforeValidator(SAMPLE_WEIGHTINGS.choice), SAMPLE_WEIGHTINGS
]
RewardScaleChoice = Annotated[Choice, BeforeValidator(REWARD_SCALES.choice), REWARD_SCALES]
