"""Scales of rewards by name; a class is imported when its settings are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from mtrl.agents.settings import Choice, Entry, Registry

if TYPE_CHECKING:
    from mtrl.agents.data.rewards import RewardScale

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
RewardScaleChoice = Annotated[Choice, BeforeValidator(REWARD_SCALES.choice), REWARD_SCALES]
