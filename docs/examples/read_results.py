"""
Read result files
=================

A run leaves one ``result.json``. It holds counts, not rates, so that intervals and merges stay exact. This program
reads the published runs of ``mtppo`` on mg7 and of the same method without its advantage floor.
"""

# %%
# ``read_result`` checks a file against the schema. The last evaluation is the one that is reported.
from pathlib import Path

from mtrl import read_result, t_interval, wilson_interval
from mtrl.records.results import success_mean
from mtrl.statistics import welch_interval

root = Path(__file__).resolve().parents[2] if "__file__" in globals() else Path.cwd()


def finals(row: str) -> list[dict]:
    """The last evaluation of every seed of a row, by task."""
    records = [
        read_result(path) for path in sorted((root / "results" / row).glob("seed-*.json"))
    ]
    return [record["evaluations"][-1]["per_task"] for record in records]


ours, without = finals("mg7/1.4m/mtppo"), finals("mg7/1.4m/mtppo-without-advantage-floor")

# %%
# All tasks of a seed share one network, so seeds are the independent unit: a t-interval over the seeds' means.
means = [success_mean(tasks) for tasks in ours]
mean, low, high = t_interval(means)
print(f"mtppo on mg7: {mean:.3f} [{low:.3f}, {high:.3f}], {len(means)} seeds")

# %%
# Differences between methods take Welch's interval over the same per-seed means.
difference, low, high = welch_interval(means, [success_mean(tasks) for tasks in without])
print(f"with minus without the floor: {difference:+.3f} [{low:+.3f}, {high:+.3f}]")

# %%
# Per task, the counts of all seeds may be pooled for reading, with a Wilson interval.
for name in ours[0]:
    wins, episodes = (
        sum(t[name]["successes"] for t in ours),
        sum(t[name]["episodes"] for t in ours),
    )
    low, high = wilson_interval(wins, episodes)
    print(f"{name:20} {wins:3} of {episodes}  [{low:.2f}, {high:.2f}]")
