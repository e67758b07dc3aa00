"""What a run writes while it trains: `weights.csv` per step, `metrics.csv` per validation."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medmtl.files import write_text
from medmtl.types import StepOutput
from medmtl.weighting import UnusableLossError


class NotFiniteError(UnusableLossError):
    """A loss or a gradient became NaN or infinite; the message names the task and the step."""


def not_finite(loss: float) -> str | None:
    """What is wrong with a loss that any weighting could take, or None."""
    return None if math.isfinite(loss) else "was not finite"


@dataclass(frozen=True)
class _Step:
    """What is remembered of a step until the device is waited for."""

    step: int
    epoch: float
    values: Tensor | None
    counts: list[int]
    compared: tuple[str, ...] = ()
    may_overflow: bool = False


class Comparison:
    """Columns for norms and cosines of the tasks' gradients.

    Args:
        tasks: names, in order.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)
        self.pairs = list(combinations(self.tasks, 2))
        self.header = [f"{task}.gradient_norm" for task in tasks]
        self.header += [f"cosine.{one}.{other}" for one, other in self.pairs]

    def cells(self, norms: Mapping[str, float], cosines: Mapping[tuple[str, str], float]) -> list[Any]:
        """Their cells; blank where a task was not compared, or its gradient is 0."""
        found = [norms.get(task, math.nan) for task in self.tasks]
        return [_cell(v) for v in (*found, *(cosines.get(pair, math.nan) for pair in self.pairs))]


def _compared(
    values: Sequence[float], tasks: Sequence[str]
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Norm of each task and cosine of each pair, from P norms and P x P cosines in a row."""
    norms = dict(zip(tasks, values, strict=False))
    matrix = iter(values[len(tasks) :])
    return norms, dict(zip(product(tasks, tasks), matrix, strict=False))


class StepLog:
    """Losses, raw and normalized weights and label counts of every step.

    Values stay on the device until `flush`, so that a step never waits for the GPU.

    Args:
        path: `weights.csv`; rows from ``first_step`` on are cut off when it exists (a resumed run). None
            writes nothing, for a rank that only looks at the losses.
        tasks: names, in order.
        first_step: step at which this process starts.
        objection: says what is wrong with a loss that must stop the run, or None.
        compares: gradients are compared on some steps, so there are columns for their norms and cosines.
    """

    def __init__(
        self,
        path: Path | None,
        tasks: Sequence[str],
        first_step: int = 0,
        objection: Callable[[float], str | None] = not_finite,
        compares: bool = False,
    ) -> None:
        self.path, self.tasks, self.objection = path, tuple(tasks), objection
        self.header = ["step", "epoch"]
        for task in self.tasks:
            self.header += [f"{task}.{part}" for part in ("loss", "raw", "weight", "count")]
        self.header += ["total", "gradient_norm"]
        self._comparison = Comparison(self.tasks) if compares else None
        self.header += [] if self._comparison is None else self._comparison.header
        self._pending: list[_Step] = []
        self._blank = [float("nan")] * (3 * len(self.tasks) + 2)
        self.sums: dict[str, list[float]] = {}
        self.totals: list[float] = []
        if path is not None:
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
            self._pending.append(_Step(step, epoch, None, counts))
            return
        blank = output.total.new_full((), torch.nan)
        values = []
        for task in self.tasks:
            values += [output.losses.get(task, blank), raw.get(task, blank), weights.get(task, blank)]
        norm = blank if output.gradient_norm is None else output.gradient_norm
        parts = [v.float().reshape(1) for v in (*values, output.total, norm)]
        if output.task_norms is not None and output.task_cosines is not None:
            parts += [output.task_norms.float(), output.task_cosines.float().flatten()]
        self._pending.append(
            _Step(step, epoch, torch.cat(parts), counts, output.compared, output.may_overflow)
        )

    def flush(self) -> None:
        """Write what is pending; waits for the device.

        Raises:
            NotFiniteError: a loss or the gradient was NaN or infinite; the rows up to it are written.
            UnusableLossError: there was another objection to a loss.
        """
        known = [one.values for one in self._pending if one.values is not None]
        flat: list[float] = torch.cat(known).cpu().tolist() if known else []
        bad: str | None = None
        with nullcontext(io.StringIO()) if self.path is None else self.path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            for one in self._pending:
                size = 0 if one.values is None else len(one.values)
                values, flat = flat[:size] or self._blank, flat[size:]
                bad = self._write(writer, one, values)
                if bad is not None:
                    break
        self._pending.clear()
        if bad is not None:
            error = NotFiniteError if "was not finite" in bad else UnusableLossError
            raise error(
                f"the {bad}; lower training.learning_rate, "
                f"look at the labels of that task, or set weighting.on_bad_loss to skip-step or drop-task. "
                f"The last checkpoint is from before; rows are in weights.csv"
            )

    def _write(self, writer: Any, one: _Step, values: list[float]) -> str | None:
        """Write the row of a step; what is wrong with the step, or None."""
        bad: str | None = None
        row: list[Any] = [one.step, f"{one.epoch:.4f}"]
        for i, task in enumerate(self.tasks):
            count = one.counts[i]
            loss, raw, weight = values[3 * i : 3 * i + 3]
            row += [*(_cell(v) if count else "" for v in (loss, raw, weight)), count]
            if count:
                if math.isfinite(loss):
                    self.sums.setdefault(task, []).append(loss)
                found = self.objection(loss)
                bad = f"loss of task {task!r} {found}" if bad is None and found is not None else bad
        total, norm = values[3 * len(self.tasks) : 3 * len(self.tasks) + 2]
        norms, cosines = _compared(values[3 * len(self.tasks) + 2 :], one.compared)
        if one.values is not None:
            if math.isfinite(total):
                self.totals.append(total)
            if bad is None and not math.isfinite(norm) and not one.may_overflow:
                present = [task for task, count in zip(self.tasks, one.counts, strict=True) if count]
                broken = [task for task, length in norms.items() if not math.isfinite(length)]
                bad = f"gradient of tasks {', '.join(broken or present)} was not finite"
        row += [_cell(total), _cell(norm)]
        row += [] if self._comparison is None else self._comparison.cells(norms, cosines)
        writer.writerow(row)
        return None if bad is None else f"{bad} at step {one.step}"

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
    """`metrics.csv`: one row per validation; columns may appear later (a task that had no labels yet).

    Without a path, for a rank that only follows, nothing is written.
    """

    def __init__(self, path: Path | None, first_step: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path is not None and path.is_file() and first_step > 0:
            with path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= first_step]

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row and write the file whole."""
        if self.path is None:
            return
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
