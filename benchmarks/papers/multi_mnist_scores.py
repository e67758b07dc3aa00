"""Test scores of Multi-MNIST's arms as training goes on, and the tables made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
from torch import Tensor

PAPER_EPOCHS = 200


@dataclass
class Course:
    """Scores of some arms of one table, scoring by scoring.

    Attributes:
        tasks: names of the K tasks.
        names: of the A arms.
        epochs: when they were scored, in epochs of all pictures.
        scores: per scoring ``{task: (S, A)}``, slots part by part.
        weights: per scoring ``(S, A, K)``, running means of the weights.
    """

    tasks: tuple[str, ...]
    names: list[str]
    epochs: list[float] = field(default_factory=list)
    scores: list[dict[str, Tensor]] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)

    def add(self, epoch: float, scores: dict[str, Tensor], weights: Tensor) -> None:
        self.epochs.append(epoch)
        self.scores.append({task: value.cpu() for task, value in scores.items()})
        self.weights.append(weights.cpu())

    def write(self, path: Path) -> None:
        """As an npz file, whole or not at all."""
        arrays: dict[str, Any] = {task: torch.stack([s[task] for s in self.scores]) for task in self.tasks}
        whole = path.with_suffix(".part.npz")
        np.savez(
            whole,
            names=np.array(self.names),
            epochs=np.array(self.epochs),
            weights=torch.stack(self.weights).numpy(),
            **{f"score of {task}": values.numpy() for task, values in arrays.items()},
        )
        whole.replace(path)

    @classmethod
    def read(cls, path: Path, tasks: tuple[str, ...]) -> Course:
        with np.load(path, allow_pickle=False) as found:
            scores = {task: torch.from_numpy(found[f"score of {task}"]) for task in tasks}
            names, epochs = found["names"].tolist(), found["epochs"].tolist()
            weights = list(torch.from_numpy(found["weights"]))
        each = [{task: scores[task][i] for task in tasks} for i in range(len(epochs))]
        return cls(tasks, names, epochs, each, weights)


def merged(courses: list[Course], order: list[str]) -> Course:
    """All arms, in order, up to the last epoch that each of them has reached."""
    common = min(len(course.epochs) for course in courses)
    names = [name for course in courses for name in course.names]
    places = sorted(range(len(names)), key=lambda place: order.index(names[place]))
    whole = Course(courses[0].tasks, [names[place] for place in places])
    for i in range(common):
        scores = {task: torch.cat([c.scores[i][task] for c in courses], 1)[:, places] for task in whole.tasks}
        weights = torch.cat([c.weights[i] for c in courses], 1)[:, places]
        whole.add(courses[0].epochs[i], scores, weights)
    return whole


def summary(course: Course, parts: tuple[float, ...]) -> dict[str, Any]:
    """Best and last test scores of every arm and part, over the seeds."""
    tasks, history = course.tasks, course.scores
    seeds = len(course.weights[-1]) // len(parts)
    arms: dict[str, Any] = {}
    for a, name in enumerate(course.names):
        single = name.removeprefix("single: ") if name.startswith("single") else None
        # The epoch that the paper would report: best for what the table scores.
        scored = [single] if single else [t for t in tasks if t != "picture"]
        for p, part in enumerate(parts):
            rows = slice(p * seeds, (p + 1) * seeds)
            values = {t: torch.stack([h[t][rows, a] for h in history]) for t in tasks}  # (epochs, seeds)
            judged = torch.stack([-values[t] if t == "picture" else values[t] for t in scored]).mean(0)
            best = judged.nan_to_num(-1).argmax(0)
            entry: dict[str, Any] = {}
            for task in [single] if single else tasks:
                scale = 1.0 if task == "picture" else 100.0
                at_best = values[task].gather(0, best[None])[0]
                entry[task] = {
                    "best": results.mean_sd((scale * at_best).tolist()),
                    "last": results.mean_sd((scale * values[task][-1]).tolist()),
                }
            share = course.weights[-1][rows, a].abs()
            share = share / share.sum(-1, keepdim=True)
            entry["share of the weight"] = dict(zip(tasks, share.mean(0).tolist(), strict=True))
            arms.setdefault(name, {})[f"{part:.0%}"] = entry
    return {
        "tasks": tasks,
        "epochs": course.epochs[-1],
        "paper's epochs": PAPER_EPOCHS,
        "seeds": seeds,
        "arms": arms,
    }


def table_of(found: dict[str, Any]) -> str:
    """As markdown: best and last test accuracy in percent, mean and standard deviation over the seeds."""
    parts = list(next(iter(found["arms"].values())))
    rows = [["", *(f"{task}, {part}, best / last" for part in parts for task in found["tasks"])]]
    for name, by_part in found["arms"].items():
        row = [name]
        for part in parts:
            for task in found["tasks"]:
                entry = by_part[part].get(task)
                digits = 5 if task == "picture" else 2
                row.append(
                    " / ".join(
                        f"{entry[w]['mean']:.{digits}f} ± {entry[w]['sd']:.{digits}f}"
                        for w in ("best", "last")
                    )
                    if entry
                    else ""
                )
        rows.append(row)
    return results.markdown(rows)
