"""Any known layout of files -> a dataset folder, all or nothing, the same bytes every time."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medmtl.data.cases import Case, write_cases
from medmtl.data.cells import is_safe_name
from medmtl.data.check import check_case
from medmtl.data.columns import Schema
from medmtl.data.dataset import FINDINGS_COLUMNS, FINDINGS_FILE, open_dataset
from medmtl.data.formats import FORMATS, DatasetFormat, LoadedCase, RawCase, Recognized, recognize
from medmtl.data.nifti import Volume, smallest_lossless, write_volume
from medmtl.data.problems import SHOWN
from medmtl.data.schema import write_schema
from medmtl.data.splits import assign_splits
from medmtl.data.staging import check_output, staged
from medmtl.data.unpack import unpacked
from medmtl.types import CaseError, ConfigError, DatasetError, Finding

Progress = Callable[[int, int], None]
"""Called with the cases done and the cases in all."""

_THREADS = 8  # reading and compressing release the interpreter; more threads only hold more cases in memory


@dataclass(frozen=True)
class IngestResult:
    """What an ingest made.

    Attributes:
        dataset_path: the dataset folder.
        cases: number of cases in it.
        refused: why the others are not; the first error of each.
        findings: everything found, as in ``findings.csv``.
        recognized: the format that the source was read as, and why.
    """

    dataset_path: Path
    cases: int
    refused: list[Finding]
    findings: list[Finding]
    recognized: str = ""


def ingest(
    source: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    format: str | DatasetFormat = "auto",
    strict: bool = False,
    seed: int = 0,
    split: Mapping[str, float] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> IngestResult:
    """Converts a folder of a known format, or several, into a dataset folder.

    Everything is written beside ``output`` and moved there at the end, so there is a whole dataset or none.

    Args:
        source: folder to read, or several of one format; zip and tar archives, and DICOM files, too.
        output: dataset folder to make; new, or empty, or with ``overwrite`` an earlier dataset.
        format: ``auto``, a registered format, ``package.module:Class``, or a format with options of its own,
            such as ``Dicom(targets="targets.csv")``.
        strict: a refused case is an error instead of a finding, and what would have to be corrected is
            refused.
        seed: of the patients' assignment to train, val and test.
        split: share of each split where the source says nothing; by default the format's own.
        overwrite: replace an earlier dataset.
        progress: called after every case.

    Raises:
        DatasetError: no format fits, no case can be used, or one cannot and ``strict`` is set.
        OutputError: the output folder holds something that is not ours to replace.
        ConfigError: ``format`` or ``split`` cannot be used.
    """
    output = Path(output)
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    for one in sources:
        check_output(one, output, overwrite)
    with unpacked(sources, format) as folders:
        recognized = _recognize(folders, format)
        reader = recognized.reader
        found = reader.find(folders, strict=strict)
        with staged(output) as folder:
            outcomes = list(_ingest_cases(found.cases, folder, found.schema, progress))
            cases = [outcome.case for outcome in outcomes if outcome.case is not None]
            findings = [*found.findings, *(finding for outcome in outcomes for finding in outcome.findings)]
            refused = [outcome.findings[-1] for outcome in outcomes if outcome.case is None]
            _check_outcome(sources, len(cases), refused, strict)
            cases = _with_splits(cases, reader, split, seed)
            write_schema(folder, found.schema)
            write_cases(folder, found.schema, cases)
            _write_findings(folder / FINDINGS_FILE, findings)
            open_dataset(folder)
    return IngestResult(output, len(cases), refused, findings, str(recognized))


def _recognize(sources: Sequence[Path], format: str | DatasetFormat) -> Recognized:
    """The one format of all sources.

    Raises:
        ConfigError: there is no source, or no format of that name.
        DatasetError: a source is of no format, or of another than the first.
    """
    if not sources:
        raise ConfigError("nothing to ingest; name a folder")
    if isinstance(format, DatasetFormat):
        name = next((n for n in FORMATS if FORMATS.get(n) is type(format)), type(format).__name__)
        for source in sources:
            if not source.exists():
                raise DatasetError(f"there is no {source}; name a folder that exists")
            if (why := format.recognizes(source)) is None:
                raise DatasetError(f"{source} is not of the format {name}: looked for {format.looks_for}")
        return Recognized(name, format, str(why))
    first, *others = (recognize(source, format) for source in sources)
    for source, other in zip(sources[1:], others, strict=True):
        if other.name != first.name:
            raise DatasetError(
                f"{sources[0]} is of the format {first.name} and {source} of {other.name}; ingest them apart"
            )
    return first


@dataclass(frozen=True)
class _Outcome:
    """One case written, or refused: then the last finding says why."""

    case: Case | None
    findings: list[Finding]


def _ingest_cases(
    raw_cases: Sequence[RawCase], folder: Path, schema: Schema, progress: Progress | None
) -> Iterator[_Outcome]:
    seen: set[str] = set()
    twice = []
    for raw in raw_cases:
        twice.append(raw.case_id in seen)
        seen.add(raw.case_id)
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        outcomes = pool.map(lambda raw, again: _ingest_case(raw, again, folder, schema), raw_cases, twice)
        for done, outcome in enumerate(outcomes, start=1):
            if progress is not None:
                progress(done, len(raw_cases))
            yield outcome


def _ingest_case(raw: RawCase, again: bool, folder: Path, schema: Schema) -> _Outcome:
    def refused(code: str, message: str, findings: Sequence[Finding] = ()) -> _Outcome:
        return _Outcome(None, [*findings, Finding(code, "error", message, raw.where, raw.case_id)])

    if again:
        return refused(
            "NO_USABLE_SERIES", f"the case {raw.case_id!r} is in the source twice; this one was left out"
        )
    if not is_safe_name(raw.case_id):
        return refused("UNDECODABLE", "its name cannot name a file; use letters, digits, '.', '_' and '-'")
    try:
        loaded = raw.load()
    except CaseError as error:
        return refused(error.code, str(error))
    except (
        ValueError,
        LookupError,
        OSError,
        EOFError,
    ) as error:  # a format that met a file it did not expect
        return refused("UNDECODABLE", f"cannot be read ({type(error).__name__}: {error})")
    images = dict(zip(schema.image_columns, loaded.images, strict=True))
    found = check_case(raw.case_id, images, loaded.labels, schema.columns)
    found = [*loaded.findings, *(replace(f, where=f"{raw.where}, {f.where}") for f in found)]
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        return _Outcome(None, [*(finding for finding in found if finding is not errors[0]), errors[0]])
    n_frames = loaded.images[0].geometry.frames
    for name, frame in (("ED", loaded.frame_ed), ("ES", loaded.frame_es)):
        if frame is not None and frame >= n_frames:
            text = f"{name} is frame {frame}, and the image has {n_frames} frame(s), counted from 0"
            return refused("TIME_AMBIGUOUS", text, found)
    return _Outcome(_write_case(raw.case_id, loaded, folder, schema), found)


def _write_case(case_id: str, loaded: LoadedCase, folder: Path, schema: Schema) -> Case:
    target = folder / "volumes" / case_id
    target.mkdir(parents=True)

    def written(name: str, volume: Volume) -> Path:
        write_volume(target / f"{name}.nii.gz", volume)
        return target / f"{name}.nii.gz"

    images = tuple(
        written(name, replace(volume, array=smallest_lossless(volume.array)))
        for name, volume in zip(schema.image_columns, loaded.images, strict=True)
    )
    files = {}
    for name, volume in loaded.labels.items():
        dtype = np.uint8 if schema.columns[name].kind == "mask" else np.float32
        files[name] = written(name, replace(volume, array=volume.array.astype(dtype, copy=False)))
    return Case(
        case_id,
        loaded.patient,
        loaded.split,
        images,
        loaded.frame_ed,
        loaded.frame_es,
        files,
        dict(loaded.values),
    )


def _with_splits(
    cases: list[Case], reader: DatasetFormat, split: Mapping[str, float] | None, seed: int
) -> list[Case]:
    """Fills the blank splits; where the source has a test split of its own, the rest trains and validates."""
    to_assign = [case for case in cases if not case.split]
    fractions = dict(reader.fractions if split is None else split)
    if split is None and any(case.split == "test" for case in cases):
        fractions.pop("test", None)
        total = sum(fractions.values())
        fractions = {name: share / total for name, share in fractions.items()}
    assigned = assign_splits(to_assign, fractions, seed, reader.stratify_by)
    return [replace(case, split=case.split or assigned[case.case_id]) for case in cases]


def _check_outcome(sources: Sequence[Path], n_cases: int, refused: Sequence[Finding], strict: bool) -> None:
    if n_cases and not (strict and refused):
        return
    shown = [f"- {finding.where}: {finding.code}: {finding.message}" for finding in refused[:SHOWN]]
    more = [f"- ... and {len(refused) - SHOWN} more"] if len(refused) > SHOWN else []
    where = ", ".join(map(str, sources))
    what = f"{len(refused)} of {n_cases + len(refused)} cases cannot be used"
    raise DatasetError("\n".join([f"{where}: {what}, and nothing was written", *shown, *more]))


def _write_findings(path: Path, findings: Sequence[Finding]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FINDINGS_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: getattr(finding, name) for name in FINDINGS_COLUMNS} for finding in findings)
