"""A dataset folder, opened and validated: cases, what their columns mean, and targets as a table.

Everything that can be told from ``dataset.yaml``, ``cases.csv`` and the headers of the volumes is checked
when a dataset is opened; voxels are looked at by `medmtl.data.check_volumes`, as ingest does for every case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.data.cases import SPLITS, Case, read_cases
from medmtl.data.columns import Column, Cycle, Derived, Schema
from medmtl.data.derive import measure, phases
from medmtl.data.headers import check_headers
from medmtl.data.nifti import Geometry, frames_first, read_volume
from medmtl.data.problems import Problems
from medmtl.data.schema import FILE as SCHEMA_FILE
from medmtl.data.schema import read_schema
from medmtl.data.splits import folds as deal_folds
from medmtl.registry import nearest
from medmtl.types import CaseError, ConfigError, DatasetError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Case", "Column", "Cycle", "Dataset", "Derived", "open_dataset"]

FINDINGS_FILE = "findings.csv"
FINDINGS_COLUMNS = ("case_id", "code", "severity", "message", "where")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A validated dataset folder.

    Attributes:
        root: the folder.
        schema: what ``dataset.yaml`` says.
        cases: in the order of ``cases.csv``.
        geometry: grid and frame count of every case, by case_id.
    """

    root: Path
    schema: Schema
    cases: tuple[Case, ...]
    geometry: Mapping[str, Geometry]

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.schema.name

    @property
    def modality(self) -> str:
        """DICOM modality, such as ``MR``."""
        return self.schema.modality

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image channels, in the order of ``Case.images``."""
        return self.schema.channels

    @property
    def columns(self) -> Mapping[str, Column]:
        """Labels and covariates by name."""
        return self.schema.columns

    @property
    def cycle(self) -> Cycle | None:
        """The structure that ED and ES are found by where they are not given."""
        return self.schema.cycle

    def select(self, split: str) -> tuple[Case, ...]:
        """The cases of ``train``, ``val`` or ``test``, or ``all``.

        Raises:
            ConfigError: no such split.
        """
        if split == "all":
            return self.cases
        if split not in SPLITS:
            raise ConfigError(f"unknown split {split!r}{nearest(split, [*SPLITS, 'all'])}")
        return tuple(case for case in self.cases if case.split == split)

    def with_fold(self, fold: int, folds: int, seed: int = 0) -> Dataset:
        """The same dataset with its training and validation cases dealt anew; test cases stay what they are.

        Args:
            fold: which of the folds, counted from 0, becomes the validation set.
            folds: how many there are.
            seed: of the deal, which is by patient and even over the first category column.

        Raises:
            ConfigError: there is no such fold, or there are fewer patients than folds.
        """
        if not 0 <= fold < folds:
            raise ConfigError(f"fold {fold} does not exist; {folds} folds count from 0 to {folds - 1}")
        dealt = [case for case in self.cases if case.split != "test"]
        first = next((name for name, column in self.columns.items() if column.kind == "category"), None)
        held_out = set(deal_folds(dealt, folds, seed, first)[fold])
        ids = {case.case_id for case in dealt}
        cases = tuple(
            replace(case, split="val" if case.case_id in held_out else "train")
            if case.case_id in ids
            else case
            for case in self.cases
        )
        return replace(self, cases=cases)

    @cached_property
    def targets(self) -> pd.DataFrame:
        """One row per case, indexed by case_id; categories are str or None, values float or NaN.

        A typed cell wins over deriving; a derived value that is not typed is computed from the case's mask,
        and is missing where that file cannot be read.
        """
        import pandas as pd

        rows = [self._targets_of(case) for case in self.cases]
        index = pd.Index([case.case_id for case in self.cases], name="case_id", dtype=object)
        table = {
            name: pd.Series(
                [row.get(name) for row in rows],
                index=index,
                dtype=object if column.kind == "category" else float,
            )
            for name, column in self.columns.items()
            if column.kind in ("category", "value")
        }
        return pd.DataFrame(table, index=index)

    @cached_property
    def findings(self) -> pd.DataFrame:
        """What ingest found worth knowing: ``case_id, code, severity, message, where``."""
        import pandas as pd

        path = self.root / FINDINGS_FILE
        if not path.is_file():
            return pd.DataFrame(columns=list(FINDINGS_COLUMNS), dtype=object)
        return pd.read_csv(path, dtype=object, keep_default_na=False)

    def _targets_of(self, case: Case) -> dict[str, float | str | None]:
        targets: dict[str, float | str | None] = dict(case.values)
        to_derive = {
            name: column.derived
            for name, column in self.columns.items()
            if column.derived is not None and name not in case.values and column.derived.mask in case.files
        }
        if not to_derive:
            return targets
        needed = {derived.mask for derived in to_derive.values()}
        if (
            self.cycle is not None
            and None in (case.frame_ed, case.frame_es)
            and self.cycle.mask in case.files
        ):
            needed.add(self.cycle.mask)
        try:
            masks = {name: frames_first(read_volume(case.files[name]).array) for name in sorted(needed)}
        except CaseError:
            return targets  # whoever needs the mask itself learns what is wrong with it; other cases go on
        given = (case.frame_ed, case.frame_es)
        if self.cycle is not None and self.cycle.mask in masks:
            label = self.columns[self.cycle.mask].labels[self.cycle.structure]
            given = phases(given, masks[self.cycle.mask], label)
        voxel_ml = self.geometry[case.case_id].voxel_ml
        for name, derived in to_derive.items():
            labels = self.columns[derived.mask].labels
            targets[name] = measure(derived, masks, labels, voxel_ml, *given)
        return targets


def open_dataset(path: Path | str) -> Dataset:
    """Opens a dataset folder and validates all of it, reading no voxels.

    Args:
        path: folder with ``dataset.yaml``, ``cases.csv`` and ``volumes/``.

    Raises:
        DatasetError: the folder contradicts itself; the message names file, row and column of up to ten
            problems.
    """
    root = Path(path)
    if not (root / SCHEMA_FILE).is_file():
        what = f"no {SCHEMA_FILE} in {root}" if root.is_dir() else f"no folder {root}"
        raise DatasetError(f"{what}, so this is not a dataset; make one with `medmtl ingest SRC -o DATASET`")
    schema = read_schema(root)
    problems = Problems(root)
    rows = read_cases(root, schema, problems)
    geometry = {
        row.case.case_id: found for row in rows if (found := check_headers(row, schema, problems)) is not None
    }
    problems.raise_if_any()
    return Dataset(root, schema, tuple(row.case for row in rows), geometry)
