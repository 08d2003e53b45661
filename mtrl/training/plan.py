"""Planned totals of a run: their segments in its record, and remarks for whoever starts it."""

from __future__ import annotations

from mtrl.agents import Agent
from mtrl.records.results import Record


def extended(before: list[Record], done: int, total: int) -> list[Record]:
    """The segments of a run that goes on at ``done`` with the planned total ``total``.

    Args:
        before: segments of the checkpoint that it goes on from.
    """
    # Nothing was trained under a total that was set at this very step.
    kept = [segment for segment in before if segment["env_steps"] != done]
    if kept and kept[-1]["total_env_steps"] == total:
        return kept
    return [*kept, {"env_steps": done, "total_env_steps": total}]


def remarks(agent: Agent, total: int, before: int | None) -> list[str]:
    """Sentences about a run that starts, or goes on, with the planned total ``total``; none if there is nothing to say.

    Args:
        before: the total that it was trained under so far; None for a new run.
    """
    found = []
    if before is not None and before != total and agent.follows_total:
        found.append(
            f"total_env_steps: {total:,} instead of {before:,}; step sizes follow the planned total and jump at "
            f"{agent.progress:,}, so this is no run that was planned for {total:,}; its record says so"
        )
    end = agent.ends_at(total) if agent.unit == "env_steps" else total
    if end is None:
        found.append(
            f"total_env_steps: tasks that pause take no steps, so a little more than {total:,} may be taken"
        )
    elif end > total > agent.progress:
        found.append(
            f"total_env_steps: {total:,} is not a multiple of a rollout or vector step: {end:,} will be taken"
        )
    return found
