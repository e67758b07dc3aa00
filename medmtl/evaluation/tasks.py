"""What a predictions folder holds: one :class:`PredictedTask` for each task, as ``outputs.yaml`` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from medmtl.registry import nearest
from medmtl.types import ConfigError

if TYPE_CHECKING:
    from medmtl.data import Column

FILE = "outputs.yaml"
MASK_KINDS = ("segmentation", "tissue")
KINDS = (*MASK_KINDS, "dense_regression", "classification", "regression")


@dataclass(frozen=True)
class PredictedTask:
    """One task of a predictions folder.

    Attributes:
        name: first part of its columns in ``predictions.csv``.
        kind: one of ``segmentation, tissue, dense_regression, classification, regression``.
        target: dataset column that it predicts; "" for regression, whose values name their own.
        file: volume in each case's folder, "" where the task has none.
        labels: voxel value of each structure in the *predicted* masks.
        classes: class names.
        values: names of the value columns, with their unit as the header or ``outputs.yaml`` gives it.
    """

    name: str
    kind: str
    target: str = ""
    file: str = ""
    labels: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)

    def measurable(self, columns: Mapping[str, Column]) -> list[str]:
        """Columns of a dataset whose values follow from this task's masks."""
        return [
            name
            for name, column in columns.items()
            if column.derived is not None
            and column.derived.mask == self.target
            and column.derived.structure in self.labels
        ]


def declared_tasks(path: Path) -> dict[str, PredictedTask]:
    """Tasks as ``outputs.yaml`` declares them.

    Args:
        path: the file.

    Raises:
        ConfigError: the file is not YAML or an entry cannot be used.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not readable YAML ({error}); write the predictions again") from error
    tasks = content.get("tasks") if isinstance(content, Mapping) else None
    if not isinstance(tasks, Mapping):
        raise ConfigError(
            f"{path} must hold a mapping `tasks:` of task names; remove the file to have it inferred"
        )
    return {str(name): _task(path, str(name), given) for name, given in tasks.items()}


def _task(path: Path, name: str, given: object) -> PredictedTask:
    where = f"{path}, tasks.{name}"
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: found {given!r}; write a mapping with `kind:`")
    kind = str(given.get("kind", ""))
    if kind not in KINDS:
        raise ConfigError(f"{where}.kind: found {kind!r}{nearest(kind, list(KINDS))}")
    file = str(given.get("file") or "")
    dense = kind in (*MASK_KINDS, "dense_regression")
    if dense and (not file or PurePosixPath(file).name != file or "\\" in file):
        raise ConfigError(f"{where}.file: found {file!r}; write a file name such as segmentation.nii.gz")
    labels = _labels(where, given.get("labels"))
    if kind in MASK_KINDS and not labels:
        raise ConfigError(f"{where}.labels: none found; write `labels: {{LV: 1, ...}}`")
    names, units = _texts(given.get("targets")), _texts(given.get("units"))
    if kind == "regression" and len(units) not in (0, len(names)):
        raise ConfigError(
            f"{where}.units: found {len(units)} units for {len(names)} targets; give one for each"
        )
    return PredictedTask(
        name=name,
        kind=kind,
        target="" if kind == "regression" else str(given.get("target") or name),
        file=file if dense else "",
        labels=labels,
        classes=_texts(given.get("classes")),
        values=dict(zip(names, units or ("",) * len(names), strict=True)) if kind == "regression" else {},
    )


def _labels(where: str, given: object) -> dict[str, int]:
    labels: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {}
    for structure, code in labels.items():
        if isinstance(code, bool) or not isinstance(code, int):
            raise ConfigError(
                f"{where}.labels.{structure}: found {code!r}; write the voxel value, a whole number"
            )
    return {str(structure): code for structure, code in labels.items()}


def _texts(given: object) -> tuple[str, ...]:
    return tuple(str(item) for item in given) if isinstance(given, (list, tuple)) else ()
