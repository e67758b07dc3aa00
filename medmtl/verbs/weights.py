"""The verbs that are about task weights: compare them, and search them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.config import ExperimentConfig, job_of, with_values, with_weightings
from medmtl.data.dataset import Dataset
from medmtl.engine import Job
from medmtl.evaluation.comparison import Comparison, design_comparison, parse_methods
from medmtl.evaluation.comparison import compare as run_comparison
from medmtl.report import build_report
from medmtl.verbs.shared import Progress, dataset_of, parsed_config

if TYPE_CHECKING:
    from medmtl.search import Search


def compare(
    config: Path | str | ExperimentConfig,
    dataset: Dataset | Path | str | None = None,
    *,
    weightings: str | Sequence[str | Mapping[str, Any]],
    output: Path | str,
    seeds: int = 3,
    overrides: Sequence[str] = (),
    split: str = "test",
    metrics: Sequence[str] | Mapping[str, str] = (),
    reference: str | None = None,
    search_lr: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train a network per task and one per weighting, over seeds, and say what the weightings gain.

    Args:
        config: YAML file, or a config that is already parsed; its weighting lends options to its name.
        dataset: dataset, its folder, or None for the one that the config names.
        weightings: such as ``ew,uw,uw-so(temperature=5)``, or ``all``; or names and mappings one by one.
        output: folder to make, or to continue; methods and seeds may be added to what it holds.
        seeds: trainings of each method, with the config's seed and those after it.
        overrides: ``key=value`` on top of the config file.
        split: cases to compare on, ``test`` or ``val``.
        metrics: ``task=metric`` where delta-m is not to be made of the task's usual metric.
        reference: method that the others are tested against; ``ew`` by default.
        search_lr: learning rates and weight decays to try per method; 0 takes the config's.
        device: ``auto``, ``cpu`` or ``cuda``; the config's by default.
        progress: called as work goes on.

    Raises:
        ConfigError: what cannot be compared; nothing was written.
        DatasetError: the dataset contradicts itself.
        OutputError: the output folder holds something else.
    """
    parsed = parsed_config(config, overrides)
    opened = dataset_of(parsed, dataset)
    methods = parse_methods(weightings, tuple(parsed.tasks), parsed.weighting)
    configs = with_weightings(parsed, {method.name: method.section for method in methods})
    design = design_comparison(
        job_of(configs[0], opened, Path(output), device=device),
        methods,
        seeds=seeds,
        split=split,
        metrics=metrics,
        reference=reference,
        trials=search_lr,
    )
    found = run_comparison(design, Path(output), progress)
    build_report(found.folder)
    return found


def search(
    config: Path | str | ExperimentConfig,
    dataset: Dataset | Path | str | None = None,
    *,
    method: str,
    output: Path | str,
    overrides: Sequence[str] = (),
    storage: str | None = None,
    trials: int | None = None,
    metrics: Sequence[str] = (),
    prune: bool = False,
    device: str | None = None,
    announce: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Search:
    """Search task weights, a temperature or other values by training with them; joins a search that runs.

    Args:
        config: YAML file, or a config that is already parsed.
        dataset: dataset, its folder, or None for the one that the config names.
        method: ``line``, ``grid`` or ``evolution``.
        output: folder to make, or of a search to continue or to join; the same for all processes.
        overrides: ``key=value`` on top of the config file.
        storage: address of a database, or path of a journal file; a journal in ``output`` by default.
        trials: trainings in all; what the method has by default.
        metrics: ``task=metric`` of the objective, whose direction is known; validation scores by default.
        prune: stop trainings that stay below the median of the others.
        device: ``auto``, ``cpu`` or ``cuda``; the config's by default.
        announce: told what will be done before anything is.
        progress: called as work goes on.
        options: of the method, see `medmtl.search.build_method`.

    Raises:
        ConfigError: what cannot be searched, or another search in ``output``; nothing was written.
        DatasetError: the dataset contradicts itself.
        OutputError: the output folder holds something else.
    """
    from medmtl.search import build_method, run_search

    parsed = parsed_config(config, overrides)
    opened = dataset_of(parsed, dataset)

    def make_job(changes: Mapping[str, Any], folder: Path) -> Job:
        return job_of(with_values(parsed, changes), opened, folder, device=device)

    return run_search(
        make_job,
        build_method(method, make_job, **options),
        output=Path(output),
        storage=storage,
        trials=trials,
        metrics=metrics,
        prune=prune,
        announce=announce,
        progress=progress,
    )
