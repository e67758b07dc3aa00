"""How well cheap comparisons of the tasks' gradients stand for the exact one, while a network trains.

python benchmarks/cut_cosines.py    # writes benchmarks/results/cut-cosines.json; about five minutes on a CPU

The five tasks of configs/phantom.yaml on small phantoms, equal weights. On every tenth step the gradients of
one batch are compared on all shared parameters (exact: a backward through the encoder per task), and on what
costs less. Reported against the exact one over all steps and pairs of tasks: correlation of the cosines,
their mean difference, how often the sign is right where the exact cosine is beyond 0.1, and the correlation
of the logarithms of norms (each over the mean of the tasks').
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from record import write_result
from torch import Tensor

from medmtl.config import job_of, load_config
from medmtl.data.batch import TrainingBatches
from medmtl.data.dataset import open_dataset
from medmtl.data.phantom import generate_cohort
from medmtl.engine import train_step
from medmtl.engine.comparison import rows
from medmtl.engine.cut import Cut
from medmtl.engine.setup import Ready, set_up
from medmtl.tasks import task_losses
from medmtl.types import Batch
from medmtl.verbs import ingest
from medmtl.weighting import Gradients, build_weighting

CASES = 20
STEPS = 300
EVERY = 10
OVERRIDES = ("backbone.widths=[8,16,32,64]", "training.batch_size=2")
CLEAR = 0.1


def prepared(folder: Path) -> Ready:
    """Phantoms, tasks and an untrained network."""
    source = generate_cohort(folder / "phantoms", cases=CASES, seed=0)
    ingest(source, folder / "dataset")
    config = load_config(Path(__file__).parents[1] / "configs" / "phantom.yaml", OVERRIDES)
    return set_up(job_of(config, open_dataset(folder / "dataset"), folder / "run"), torch.device("cpu"))


def pulled(ready: Ready, batch: Batch, on: str, sketch: int = 0) -> Cut:
    """The tasks' gradients of a batch at the cut."""
    cut = Cut(ready.model.network, on, sketch)
    inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)
    outputs = ready.model.network(*inputs, cut=cut, opened=cut.opened)
    cut.pull(task_losses(ready.model.tasks, outputs, batch)[0])
    return cut


def comparisons(ready: Ready, batch: Batch) -> dict[str, Gradients]:
    """The same gradients, compared in every way; the exact one first."""
    tasks = list(pulled(ready, batch, "features").found)
    layers = pulled(ready, batch, "last_layers")
    whole = rows(layers, tasks)
    return {
        "all shared parameters (exact)": pulled(ready, batch, "shared_parameters").compare(tasks),
        "last convolution of every level": Gradients.of(whole),
        "the same, sketch 8": pulled(ready, batch, "last_layers", 8).compare(tasks),
        "last convolution of the coarsest level": Gradients.of({t: parts[-1:] for t, parts in whole.items()}),
        "features": pulled(ready, batch, "features").compare(tasks),
    }


def agreement(found: list[dict[str, Gradients]], name: str) -> dict[str, float]:
    """One way to compare against the exact one."""
    cosines, exact, norms, exact_norms = [], [], [], []
    for step in found:
        one, other = step[name], next(iter(step.values()))
        pairs = torch.triu_indices(len(one.tasks), len(one.tasks), 1).unbind()
        cosines.append(one.cosines()[pairs])
        exact.append(other.cosines()[pairs])
        norms.append((one.norms() / one.norms().mean()).log())
        exact_norms.append((other.norms() / other.norms().mean()).log())
    a, b, n, m = (torch.cat(parts) for parts in (cosines, exact, norms, exact_norms))
    clear = b.abs() > CLEAR
    return {
        "cosine correlation": _correlation(a, b),
        "cosine mean difference": round(float((a - b).abs().mean()), 3),
        "sign right": round(float((a.sign() == b.sign())[clear].float().mean()), 3),
        "norm correlation": _correlation(n, m),
    }


def _correlation(a: Tensor, b: Tensor) -> float:
    return round(float(torch.corrcoef(torch.stack([a, b]))[0, 1]), 3)


def main() -> None:
    torch.set_num_threads(1)
    found: list[dict[str, Gradients]] = []
    with tempfile.TemporaryDirectory() as folder:
        ready = prepared(Path(folder))
        network, tasks = ready.model.network.train(), ready.model.tasks
        patch = ready.plan.preparation.patch
        batches = TrainingBatches(ready.train, ready.label_columns, patch, batch_size=2, seed=0)
        weighting = build_weighting("ew", tuple(tasks))
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
        torch.manual_seed(0)
        for step in range(1, STEPS + 1):
            batch = batches.batch(step)
            train_step(network, batch, tasks, weighting, optimizer, max_gradient_norm=5.0)
            if step % EVERY == 0 and all(task.label_count(batch) for task in tasks.values()):
                found.append(comparisons(ready, batch))
    result: dict[str, Any] = {name: agreement(found, name) for name in found[0]}
    settings = {"cases": CASES, "steps": STEPS, "compared": len(found), "tasks": list(tasks)}
    print(
        write_result(
            "cut-cosines", "python benchmarks/cut_cosines.py", {"settings": settings, "against exact": result}
        )
    )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
