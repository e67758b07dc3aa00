"""What several verbs share: progress, and configs and datasets that are given whole or by their path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from medmtl.config import ExperimentConfig, load_config
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.types import ConfigError

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """The same progress with its name filled in."""
    if progress is None:
        return None

    def call(done: int, total: int) -> None:
        progress(what, done, total)

    return call


def parsed_config(config: Path | str | ExperimentConfig, overrides: Sequence[str]) -> ExperimentConfig:
    """The config itself, or the one of a file with ``key=value`` on top."""
    return config if isinstance(config, ExperimentConfig) else load_config(config, overrides)


def opened_dataset(dataset: Dataset | Path | str) -> Dataset:
    """The dataset itself, or the one of a folder."""
    return dataset if isinstance(dataset, Dataset) else open_dataset(dataset)


def dataset_of(config: ExperimentConfig, dataset: Dataset | Path | str | None) -> Dataset:
    """The dataset that was given, or that the config names, with the config's fold held out."""
    wanted = dataset if dataset is not None else config.dataset
    if wanted is None:
        raise ConfigError("no dataset: name it in the config or on the command line (dataset=FOLDER)")
    opened = opened_dataset(wanted)
    return opened if config.fold is None else opened.with_fold(config.fold, config.folds)
