"""Splits and folds: bad fractions first, then patient-wise, proportional, and the same whatever the order."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data import Case, assign_splits, folds
from medmtl.types import ConfigError

FRACTIONS = {"train": 0.72, "val": 0.08, "test": 0.20}


def cohort(per_class: dict[str, int], per_patient: int = 1) -> list[Case]:
    return [
        Case(f"{label}{number}_{visit}", f"{label}{number}", "", (Path("image"),), values={"disease": label})
        for label, count in per_class.items()
        for number in range(count)
        for visit in range(per_patient)
    ]


ACDC = cohort(dict.fromkeys(["NOR", "MINF", "DCM", "HCM", "RV"], 20))


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.7, "val": 0.1}, r"sum to 0.8; they have to sum to 1"),
        ({"train": 1.2, "val": -0.2}, r"fraction of 'train' is 1.2"),
        ({"train": 0.5, "tets": 0.5}, r"unknown split 'tets'; did you mean 'test'"),
        ({}, "sum to 0"),
    ],
)
def test_fractions_that_are_none_are_refused(fractions: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assign_splits(ACDC, fractions)


@pytest.mark.parametrize("k", [0, 1, 101])
def test_a_number_of_folds_that_does_not_fit_is_refused(k: int) -> None:
    with pytest.raises(ConfigError, match=f"found k = {k}, and 100 patients make 2 to 100 folds"):
        folds(ACDC, k)


def test_no_cases_have_no_splits() -> None:
    assert assign_splits([]) == {}


def test_acdc_has_four_test_patients_of_each_group_and_72_8_20_in_all() -> None:
    splits = assign_splits(ACDC, FRACTIONS)
    assert Counter(splits.values()) == {"train": 72, "val": 8, "test": 20}
    tested = Counter(case.values["disease"] for case in ACDC if splits[case.case_id] == "test")
    assert set(tested.values()) == {4}


def test_a_patient_whose_cases_lack_a_class_is_placed_too() -> None:
    cases = [*ACDC, Case("x", "x", "", (Path("image"),))]
    assert assign_splits(cases)["x"] in {"train", "val", "test"}


def test_one_class_alone_gets_what_its_fractions_say() -> None:
    assert Counter(assign_splits(ACDC, stratify_by=None).values()) == {"train": 70, "val": 10, "test": 20}


def test_another_seed_places_other_patients() -> None:
    assert assign_splits(ACDC, seed=0) != assign_splits(ACDC, seed=1)
    assert folds(ACDC, 5, seed=0) != folds(ACDC, 5, seed=1)


cohorts = st.builds(
    cohort,
    st.dictionaries(st.sampled_from(["NOR", "DCM", "HCM"]), st.integers(1, 30), min_size=1),
    st.integers(1, 3),
)


@settings(deadline=None)
@given(cohorts, st.integers(0, 5), st.randoms(use_true_random=False))
def test_every_class_gets_its_share_whatever_the_order_of_rows(
    cases: list[Case], seed: int, shuffler: random.Random
) -> None:
    splits = assign_splits(cases, FRACTIONS, seed)
    shuffled = cases.copy()
    shuffler.shuffle(shuffled)
    assert assign_splits(shuffled, FRACTIONS, seed) == splits
    split_of = {case.patient: splits[case.case_id] for case in cases}
    assert all(splits[case.case_id] == split_of[case.patient] for case in cases)
    class_of = {case.patient: case.values["disease"] for case in cases}
    for label, size in Counter(class_of.values()).items():
        for name, fraction in FRACTIONS.items():
            found = sum(split_of[patient] == name for patient in class_of if class_of[patient] == label)
            assert abs(found - fraction * size) < 1


@settings(deadline=None)
@given(cohorts, st.integers(2, 5), st.randoms(use_true_random=False))
def test_folds_hold_out_every_case_once_and_no_patient_twice(
    cases: list[Case], k: int, shuffler: random.Random
) -> None:
    patients = {case.patient for case in cases}
    if len(patients) < k:
        return
    dealt = folds(cases, k)
    shuffled = cases.copy()
    shuffler.shuffle(shuffled)
    assert folds(shuffled, k) == dealt
    assert sorted(case_id for fold in dealt for case_id in fold) == sorted(case.case_id for case in cases)
    fold_of = {case_id: number for number, fold in enumerate(dealt) for case_id in fold}
    assert len({(case.patient, fold_of[case.case_id]) for case in cases}) == len(patients)
    for label in {str(case.values["disease"]) for case in cases}:
        of_class = {(c.patient, fold_of[c.case_id]) for c in cases if c.values["disease"] == label}
        counts = Counter(fold for _, fold in of_class)
        assert max(counts.values()) - min(counts.get(fold, 0) for fold in range(k)) <= 1
