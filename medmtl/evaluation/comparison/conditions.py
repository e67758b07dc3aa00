"""The conditions that trainings share, written into the folder that holds them: data, settings and plan."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from medmtl.data import Dataset
from medmtl.engine import Job
from medmtl.engine.planning import as_config, plan_job, with_plan
from medmtl.engine.run_folder import flat_config
from medmtl.inference.device import choose_device
from medmtl.plan import plan_text
from medmtl.tasks import build_task
from medmtl.types import ConfigError, OutputError

_SHOWN = 5


def dataset_facts(dataset: Dataset) -> dict[str, str]:
    """Name and digest of a dataset, so that one that changed is not taken for the same.

    The digest is of its description, its table and its splits, which a fold may have changed.
    """
    digest = hashlib.sha256()
    for name in ("dataset.yaml", "cases.csv"):
        digest.update((dataset.root / name).read_bytes())
    for case in dataset.cases:
        digest.update(f"{case.case_id}={case.split};".encode())
    return {"name": dataset.name, "sha256": digest.hexdigest()[:16]}


def plain(value: Any) -> Any:
    """What YAML gives back: mappings as dicts, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def read_description(path: Path, kind: str, version: int, needs: Sequence[str] = ()) -> dict[str, Any]:
    """What a file that describes a folder says.

    Args:
        path: of the file.
        kind: what it describes, such as ``search``; its key ``medmtl_<kind>`` holds the version.
        version: of the format.
        needs: other keys that it must have.

    Raises:
        OutputError: it cannot be read, or describes something else.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OutputError(f"{path}: cannot be read; start anew in another folder") from error
    known = isinstance(found, dict) and found.get(f"medmtl_{kind}") == version
    if not known or any(key not in found for key in needs):
        raise OutputError(f"{path}: is not a {kind} of format {version}; start anew in another folder")
    return dict(found)


def differences(
    found: Mapping[str, Any], wanted: Mapping[str, Any], may_change: Collection[str] = ()
) -> list[str]:
    """Dotted keys that differ between two descriptions, each with both values in words."""
    before, now = flat_config(found), flat_config(plain(wanted))
    return [
        f"{key.removeprefix('config.').removeprefix('settings.')} was {before.get(key)!r} and is now "
        f"{now.get(key)!r}"
        for key in sorted({*before, *now} - set(may_change))
        if before.get(key) != now.get(key)
    ]


def refuse_other(folder: Path, kind: str, lines: Sequence[str], advice: str) -> None:
    """Refuse to go on in a folder where something differs.

    Args:
        folder: that holds a description.
        kind: what it describes.
        lines: the `differences`, if any.
        advice: what to do instead of choosing another folder.

    Raises:
        ConfigError: there are differences; the message has the first of them.
    """
    if lines:
        more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise ConfigError(
            f"{folder}: holds another {kind}: {'; '.join(lines[:_SHOWN])}{more}. {advice}, or choose "
            "another output folder"
        )


def planned_text(job: Job) -> str:
    """The `plan.yaml` of what a job leaves open.

    Raises:
        ConfigError: nothing fits the memory.
    """
    columns = job.dataset.columns
    tasks = {name: build_task(name, section, columns) for name, section in job.tasks.items()}
    made = plan_job(job, tasks, choose_device(job.device))
    return plan_text(made.plan, made.found, job.dataset.name)


def under_plan(job: Job, plan: Path) -> Job:
    """The same job with a `plan.yaml`, in its resolved config too."""
    planned = with_plan(job, plan)
    return replace(planned, resolved=as_config(planned))


def clear_unstarted(run: Path) -> bool:
    """Remove what a process left that was killed before it wrote the config; says whether there was any."""
    unstarted = run.is_dir() and not (run / "config.yaml").is_file()
    if unstarted:
        shutil.rmtree(run)
    return unstarted
