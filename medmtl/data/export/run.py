"""A dataset, or any source that can be ingested -> a folder in another program's layout, all or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from medmtl.data.dataset import FINDINGS_FILE, Dataset, open_dataset
from medmtl.data.export.base import LAYOUTS, ExportResult, Layout, Progress
from medmtl.data.formats import DatasetFormat
from medmtl.data.ingest import ingest
from medmtl.data.schema import FILE as SCHEMA_FILE
from medmtl.data.staging import staged
from medmtl.files import is_free
from medmtl.types import Finding, OutputError


def export(
    source: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    to: str,
    mask: str | None = None,
    format: str | DatasetFormat = "auto",
    strict: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> ExportResult:
    """Writes a dataset in the layout of another program.

    Everything is written beside ``output`` and moved there at the end, so there is a whole folder or none.

    Args:
        source: dataset folder, or anything that `medmtl.data.ingest` reads, in one folder or several.
        output: folder to make; new or empty.
        to: ``nnunet``, ``bids`` or ``msd``, or ``package.module:Class``.
        mask: mask column to write, for layouts with place for one; by default the one that ED and ES are
            found by, else the first.
        format: how to read a source that is no dataset.
        strict: a case of the source that is refused is an error instead of a finding.
        seed: of the patients' assignment to splits, where the source says nothing.
        progress: called after every case that is written.

    Raises:
        ConfigError: there is no such layout, format or mask, or nothing that the layout can hold.
        DatasetError: the source cannot be read.
        OutputError: the output folder is not empty, or holds the source.
    """
    output = Path(output)
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    layout = LAYOUTS.get(to)()
    for one in sources:
        _check_output(one, output)
    if len(sources) == 1 and (sources[0] / SCHEMA_FILE).is_file():
        because = f"dataset, because of {SCHEMA_FILE}"
        return _export(open_dataset(sources[0]), output, to, layout, mask, because, [], progress)
    output.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        made = ingest(sources, workspace / "dataset", format=format, strict=strict, seed=seed)
        dataset = open_dataset(made.dataset_path)
        return _export(dataset, output, to, layout, mask, made.recognized, made.refused, progress)
    finally:
        shutil.rmtree(workspace)


def _export(
    dataset: Dataset,
    output: Path,
    to: str,
    layout: Layout,
    mask: str | None,
    recognized: str,
    refused: list[Finding],
    progress: Progress | None,
) -> ExportResult:
    with staged(output) as folder:
        written = layout.write(dataset, folder, mask=mask, progress=progress)
        if (dataset.root / FINDINGS_FILE).is_file():
            shutil.copyfile(dataset.root / FINDINGS_FILE, layout.findings_file(folder))
    return ExportResult(output, to, written, recognized, [*refused, *written.left_out], layout.note(output))


def _check_output(source: Path, output: Path) -> None:
    if source.resolve() == output.resolve() or source.resolve().is_relative_to(output.resolve()):
        raise OutputError(f"{output} holds the source {source}; choose another output folder")
    if not is_free(output):
        raise OutputError(f"{output} is not empty, so it is left as it is; choose a new folder")
