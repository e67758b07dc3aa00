"""Who trains and who tests: patient-wise, stratified, and the same whatever the order of the rows."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from medmtl.data.cases import SPLITS, Case
from medmtl.registry import nearest
from medmtl.types import ConfigError

DEFAULT_FRACTIONS: Mapping[str, float] = MappingProxyType({"train": 0.7, "val": 0.1, "test": 0.2})


def assign_splits(
    cases: Iterable[Case],
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    stratify_by: str | None = "disease",
) -> dict[str, str]:
    """Puts every patient into one split.

    Every class gets its proportional share of each split, rounded up or down by the largest remainder; what
    one class lost by rounding counts for the next, so that the whole keeps its fractions too.

    Args:
        cases: cases with their patients.
        fractions: share of train, val and test; they sum to 1.
        seed: another seed, other patients.
        stratify_by: a category column; None, or cases without a class, form one class.

    Returns:
        the split of every case_id.

    Raises:
        ConfigError: the fractions are not such.
    """
    _check_fractions(fractions)
    names = [name for name in SPLITS if name in fractions]
    owed = dict.fromkeys(names, 0.0)
    split_of_patient: dict[str, str] = {}
    cases = list(cases)
    for patients in _shuffled_classes(cases, seed, stratify_by):
        ideal = {name: round(fractions[name] * len(patients), 9) for name in names}
        seats = {name: math.floor(share) for name, share in ideal.items()}
        open_to = [name for name in names if ideal[name] > seats[name]]
        open_to.sort(key=lambda name: ideal[name] - seats[name] + owed[name], reverse=True)
        for name in open_to[: len(patients) - sum(seats.values())]:
            seats[name] += 1
        owed = {name: owed[name] + ideal[name] - seats[name] for name in names}
        drawn = iter(patients)
        split_of_patient |= {next(drawn): name for name in names for _ in range(seats[name])}
    return {case.case_id: split_of_patient[case.patient] for case in cases}


def folds(
    cases: Iterable[Case], k: int, seed: int = 0, stratify_by: str | None = "disease"
) -> tuple[tuple[str, ...], ...]:
    """Deals patients into k folds of nearly equal size and mix.

    Args:
        cases: cases with their patients.
        k: number of folds, from 2 to the number of patients.
        seed: another seed, other folds.
        stratify_by: a category column, or None.

    Returns:
        the case_ids that each fold holds out, sorted; every case is in exactly one.

    Raises:
        ConfigError: k does not fit.
    """
    cases = list(cases)
    patients = [patient for group in _shuffled_classes(cases, seed, stratify_by) for patient in group]
    if not 2 <= k <= len(patients):
        raise ConfigError(f"found k = {k}, and {len(patients)} patients make 2 to {len(patients)} folds")
    fold_of = {patient: number % k for number, patient in enumerate(patients)}
    return tuple(tuple(sorted(c.case_id for c in cases if fold_of[c.patient] == fold)) for fold in range(k))


def _shuffled_classes(cases: Sequence[Case], seed: int, stratify_by: str | None) -> list[list[str]]:
    """The classes and the patients of each, in orders that depend on the seed and their names only."""
    class_of: dict[str, str] = {}
    for case in sorted(cases, key=lambda case: case.case_id):
        label = str(case.values.get(stratify_by, "")) if stratify_by is not None else ""
        class_of[case.patient] = class_of.get(case.patient) or label
    groups: dict[str, list[str]] = defaultdict(list)
    for patient in _shuffled(class_of, seed):
        groups[class_of[patient]].append(patient)
    return [groups[label] for label in _shuffled(groups, seed)]


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    """By digest: where one name stands among the others does not depend on which others there are."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())


def _check_fractions(fractions: Mapping[str, float]) -> None:
    for name, fraction in fractions.items():
        if name not in SPLITS:
            raise ConfigError(f"unknown split {name!r}{nearest(name, list(SPLITS))}")
        if not 0 <= fraction <= 1:
            raise ConfigError(f"the fraction of {name!r} is {fraction}; it has to be from 0 to 1")
    total = sum(fractions.values())
    if not math.isclose(total, 1.0, abs_tol=1e-6):
        shown = ", ".join(f"{name} {fraction}" for name, fraction in fractions.items())
        raise ConfigError(f"the fractions ({shown}) sum to {total:.6g}; they have to sum to 1")
