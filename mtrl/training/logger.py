"""TensorBoard events under the key names that Stable-Baselines3 users know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from mtrl.agents.settings import as_text
from mtrl.records.results import Record, success_mean
from mtrl.training.run_folder import writing

_MOST, _LARGEST = 1024, 16  # pixels of an image, and of a matrix entry, along one side


class TensorBoardLogger:
    """Writes scalars at env steps. A resumed run drops the points after its checkpoint, so none appears twice.

    The page groups by the first part of a key: ``eval/mean_success`` and ``eval/success/<task>``, ``rollout/…``,
    ``time/…`` and ``train/…`` hold what concerns all tasks, ``curriculum/…`` the tasks' shares and order; everything
    else that is logged per task sits in a group of that task: ``task <task>/train_alpha``, ``task <task>/eval_return``
    and so on.
    """

    def __init__(self, folder: Path, first_step: int, settings: dict[str, Any]) -> None:
        """Open the event file.

        Args:
            folder: of this run's events.
            first_step: env steps of the checkpoint that the run continues from, 0 for a new run.
            settings: the resolved configuration, shown as a table.
        """
        self._folder = folder
        with writing(folder):
            self._writer = SummaryWriter(
                str(folder), purge_step=first_step + 1 if first_step else 0
            )
            if not first_step:
                rows = "\n".join(
                    f"| `{key}` | `{as_text(value)}` |" for key, value in settings.items()
                )
                self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", 0)
                self._hyperparameters(settings)

    def _hyperparameters(self, settings: dict[str, Any]) -> None:
        plain = {
            key: value if isinstance(value, bool | int | float | str) else as_text(value)
            for key, value in settings.items()
        }
        file_writer = self._writer._get_file_writer()
        # SummaryWriter.add_hparams would open a second run beside this one; these summaries belong to this one.
        for summary in hparams(plain, {"eval/mean_success": 0.0}):
            file_writer.add_summary(summary)

    def scalars(self, values: dict[str, float], env_steps: int) -> None:
        """Log scalars at ``env_steps``."""
        with writing(self._folder):
            for key, value in values.items():
                self._writer.add_scalar(_tag(key), value, env_steps)

    def images(self, images: dict[str, NDArray], env_steps: int) -> None:
        """Log matrices in [0, 1] at ``env_steps``, each entry a rectangle of gray (1 is white)."""
        with writing(self._folder):
            for key, matrix in images.items():
                shape = [min(max(_MOST // size, 1), _LARGEST) for size in matrix.shape]
                enlarged = np.kron(matrix, np.ones(shape)).astype(np.float32)
                self._writer.add_image(key, enlarged, env_steps, dataformats="HW")

    def evaluation(self, record: Record) -> None:
        """Log one evaluation."""
        values = {"eval/mean_success": success_mean(record["per_task"])}
        for name, task in record["per_task"].items():
            values[f"eval/success/{name}"] = task["successes"] / task["episodes"]
            values[f"eval/final_step_success/{name}"] = (
                task["final_step_successes"] / task["episodes"]
            )
            values[f"eval/return/{name}"] = task["return_mean"]
            values[f"eval/length/{name}"] = task["length_mean"]
        self.scalars(values, record["env_steps"])

    def flush(self) -> None:
        """Make the points so far durable enough to survive the death of this process."""
        with writing(self._folder):
            self._writer.flush()

    def close(self) -> None:
        with writing(self._folder):
            self._writer.close()


def _tag(key: str) -> str:
    """Where a logged key stands on the page: ``group/name/<task>`` moves to the task's own group."""
    group, *rest = key.split("/")
    if len(rest) < 2 or group == "curriculum" or (group, rest[0]) == ("eval", "success"):
        return key
    return f"task {rest[-1]}/{group}_{'_'.join(rest[:-1])}"
