"""What a run writes while it trains: `weights.csv` per step, `metrics.csv` per validation."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medmtl.files import write_text
from medmtl.types import MedmtlError, StepOutput


class NotFiniteError(MedmtlError):
    """A loss became NaN or infinite; the message names the task and the step."""

    exit_code = 1


class StepLog:
    """Losses, raw and normalized weights and label counts of every step.

    Values stay on the device until `flush`, so that a step never waits for the GPU.

    Args:
        path: `weights.csv`; rows from ``first_step`` on are cut off when it exists (a resumed run).
        tasks: names, in order.
        first_step: step at which this process starts.
    """

    def __init__(self, path: Path, tasks: Sequence[str], first_step: int = 0) -> None:
        self.path, self.tasks = path, tuple(tasks)
        self.header = ["step", "epoch"]
        for task in self.tasks:
            self.header += [f"{task}.{part}" for part in ("loss", "raw", "weight", "count")]
        self.header += ["total", "gradient_norm"]
        self._pending: list[tuple[int, float, Tensor | None, list[int]]] = []
        self._blank = [float("nan")] * (3 * len(self.tasks) + 2)
        self.sums: dict[str, list[float]] = {}
        self.totals: list[float] = []
        start_table(path, self.header, "step", first_step)

    def add(
        self,
        step: int,
        epoch: float,
        output: StepOutput,
        weights: Mapping[str, Tensor],
        raw: Mapping[str, Tensor],
    ) -> None:
        """Remember one step."""
        counts = [output.counts.get(task, 0) for task in self.tasks]
        if output.total is None:
            self._pending.append((step, epoch, None, counts))
            return
        blank = output.total.new_full((), torch.nan)
        values = []
        for task in self.tasks:
            values += [output.losses.get(task, blank), raw.get(task, blank), weights.get(task, blank)]
        norm = blank if output.gradient_norm is None else output.gradient_norm
        together = torch.stack([v.float().reshape(()) for v in (*values, output.total, norm)])
        self._pending.append((step, epoch, together, counts))

    def flush(self) -> None:
        """Write what is pending; waits for the device.

        Raises:
            NotFiniteError: a loss or the gradient was NaN or infinite; the rows up to it are written.
        """
        known = [values for _, _, values, _ in self._pending if values is not None]
        table = iter(torch.stack(known).cpu().tolist() if known else [])
        bad: tuple[int, str] | None = None
        with self.path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            for step, epoch, tensor, counts in self._pending:
                values = self._blank if tensor is None else next(table)
                row: list[Any] = [step, f"{epoch:.4f}"]
                for i, task in enumerate(self.tasks):
                    loss, raw, weight = values[3 * i : 3 * i + 3]
                    row += [*(_cell(v) if counts[i] else "" for v in (loss, raw, weight)), counts[i]]
                    if counts[i]:
                        self.sums.setdefault(task, []).append(loss)
                        if bad is None and not math.isfinite(loss):
                            bad = (step, f"loss of task {task!r}")
                if tensor is not None:
                    self.totals.append(values[-2])
                    if bad is None and not math.isfinite(values[-1]):
                        present = [task for i, task in enumerate(self.tasks) if counts[i]]
                        bad = (step, f"gradient of tasks {', '.join(present)}")
                writer.writerow([*row, _cell(values[-2]), _cell(values[-1])])
                if bad is not None:
                    break
        self._pending.clear()
        if bad is not None:
            raise NotFiniteError(
                f"the {bad[1]} was not finite at step {bad[0]}; lower training.learning_rate, "
                f"or look at the labels of that task. The last checkpoint is from before; "
                f"rows are in {self.path.name}"
            )

    def means(self) -> dict[str, float]:
        """Mean ``loss.<task>`` of each task and mean ``total`` since the last call."""
        found = {f"loss.{task}": sum(values) / len(values) for task, values in self.sums.items()}
        if self.totals:
            found["total"] = sum(self.totals) / len(self.totals)
        self.sums.clear()
        self.totals.clear()
        return found


def start_table(path: Path, header: Sequence[str], key: str, first: int) -> None:
    """Begin a CSV file, or cut one with the same header back to the rows with ``key`` < ``first``."""
    rows: list[list[str]] = []
    if path.is_file() and first > 0:
        with path.open(newline="") as file:
            found = list(csv.reader(file))
        if found and found[0] == list(header):
            index = found[0].index(key)
            rows = [row for row in found[1:] if len(row) == len(header) and int(row[index]) < first]
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([list(header), *rows])
    write_text(path, stream.getvalue())


class EpochLog:
    """`metrics.csv`: one row per validation; columns may appear later (a task that had no labels yet)."""

    def __init__(self, path: Path, first_step: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.is_file() and first_step > 0:
            with path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= first_step]

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row and write the file whole."""
        self.rows.append(dict(row))
        header: dict[str, None] = {}
        for known in self.rows:
            header.update(dict.fromkeys(known))
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, list(header), restval="")
        writer.writeheader()
        writer.writerows([{k: _cell(v) for k, v in known.items()} for known in self.rows])
        write_text(self.path, stream.getvalue())


def _cell(value: Any) -> Any:
    """Numbers with 6 significant digits, NaN as a blank cell."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return value
