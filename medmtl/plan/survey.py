"""From a dataset to its plan: measure, decide, and say what does not go with the rest."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from medmtl.data.dataset import Case, Dataset
from medmtl.data.room import readable
from medmtl.plan.budget import Budget
from medmtl.plan.fingerprint import Fingerprint, fingerprint
from medmtl.plan.intensities import needs_voxels, wanted_normalization
from medmtl.plan.outliers import misfits, spacing_outliers
from medmtl.plan.overview import with_overview
from medmtl.plan.plan import Plan, make_plan
from medmtl.plan.voxels import measure_voxels
from medmtl.plan.wishes import Load, Wishes
from medmtl.types import ConfigError, DatasetError

LOG = logging.getLogger("medmtl.plan")


def planned_cases(dataset: Dataset) -> tuple[Case, ...]:
    """All cases of training and validation, so that the folds of a cross-validation share a plan.

    Raises:
        DatasetError: there are none.
    """
    cases = tuple(case for case in dataset.cases if case.split in ("train", "val"))
    if not cases:
        raise DatasetError(
            f"{dataset.root / 'cases.csv'}: no case has split = train or val; fill the split column"
        )
    return cases


def plan_dataset(
    dataset: Dataset,
    wishes: Wishes,
    budget: Budget,
    load: Load,
    *,
    read_voxels: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Plan, Fingerprint]:
    """Plan for a dataset; warns of cases with voxels far from the others', and of numbers that do not fit.

    Args:
        dataset: to plan for.
        wishes: what is not left open.
        budget: memory.
        load: what a step carries besides the backbone.
        read_voxels: measure all volumes, even if no choice hangs on it.
        progress: called with (done, all) while volumes are read.

    Raises:
        ConfigError: see `make_plan` and `check_memory`.
        DatasetError: no case is in training or validation.
    """
    cases = planned_cases(dataset)
    found = fingerprint(dataset, cases)
    if read_voxels or needs_voxels(wanted_normalization(found, wishes.normalization)):
        found = replace(found, voxels=measure_voxels(dataset, cases, progress))
    plan = make_plan(found, wishes, budget, load)
    check_memory(plan, budget, with_overview(load, plan.preparation))
    preparation = plan.preparation
    for sentence in [
        *spacing_outliers(found), *misfits(preparation.patch, preparation.spacing_mm, found)
    ]:  # fmt: skip
        LOG.warning("%s", sentence)
    return plan, found


def check_memory(plan: Plan, budget: Budget, load: Load) -> None:
    """Refuse what cannot run, and warn of what may not.

    What cannot: activations, weights and optimizer alone need more than there is.

    Raises:
        ConfigError: so; says which number to change, and to what.
    """
    need, patch = plan.need, plan.preparation.patch
    if need is None:
        return
    volumes = load.volumes(plan.batch_size)
    certain = int(volumes * need.kept + 16 * need.weights)
    what = (
        f"{plan.batch_size} cases of {load.frames_per_case:.3g} frames in patches of {_times(patch)} voxels"
    )
    if certain > budget.total:
        fitting = math.floor(need.volumes_in(budget.total) / load.volumes_per_case) * load.ranks
        if 1 <= fitting < plan.batch_size:
            advice = f"use a training.batch_size of {fitting}"
        else:
            smaller = _times(_smaller(patch, need.volumes_in, budget, load))
            advice = f"make preparation.patch about {smaller}, or leave it out"
        raise ConfigError(
            f"training.batch_size, preparation.patch: {what} take at least {readable(certain)}, and there "
            f"are {readable(budget.total)} ({budget.device}); {advice}"
        )
    if need.of(volumes) > budget.total:
        LOG.warning(
            "%s may take %s, and there are %s (%s); if memory runs out, lower training.batch_size or "
            "preparation.patch",
            what,
            readable(need.of(volumes)),
            readable(budget.total),
            budget.device,
        )


def _smaller(patch: Sequence[int], volumes_in: Callable[[int], int], budget: Budget, load: Load) -> list[int]:
    """A patch of the same proportions that fits one case per step."""
    share = max(volumes_in(budget.total), 0.05) / max(1.0, load.volumes_per_case)
    side = min(1.0, share) ** (1 / 3)
    return [n if n < 32 else max(16, int(n * side) // 16 * 16) for n in patch]


def _times(numbers: Sequence[int]) -> str:
    return " x ".join(str(n) for n in numbers)
