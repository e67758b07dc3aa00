"""The verbs that read data: inspect and ingest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from medmtl.commands.shared import (
    DICOM,
    AsJson,
    Output,
    UsageError,
    exit_with_list,
    print_tables,
    progress_bars,
)
from medmtl.types import ConfigError


def inspect(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SRC...", help="Folders, files, zip or tar archives.")
    ],
    as_json: AsJson = False,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="PNG to write: every volume's slices, and its middle slice over time.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse volumes that would have to be resampled.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="Remember headers in your cache folder for a quick second look.")
    ] = False,
) -> None:
    """Say what DICOM is in there: series, volumes, and findings with what to do about them.

    [dim]medmtl inspect study/ --contact-sheet study.png[/dim]
    """
    from medmtl.data.dicom.cache import default_cache
    from medmtl.report.contact_sheet import check_replaceable, write_contact_sheet
    from medmtl.report.inspection import as_dict, is_refused, look, printable
    from medmtl.report.scan_table import tables

    missing = next((source for source in sources if not source.exists()), None)
    if missing is not None:
        raise UsageError(f"{missing}: there is no such file or folder")
    remembered = default_cache() if cache else None
    with progress_bars() as progress:

        def tell(done: int, seen: int) -> None:
            # how many files there are is known only at the end; until then the bar is not to fill
            progress("inspect", done, max(seen, done + 1))

        if contact_sheet is None:
            document = look(sources, strict=strict, cache=remembered, progress=tell)
        else:
            from medmtl.data.dicom import scan

            check_replaceable(contact_sheet)
            found = scan(sources, strict=strict, cache=remembered, progress=tell)
            write_contact_sheet(
                contact_sheet,
                [plan for series in found.series for plan in series.volumes],
                progress=lambda done, total: progress("draw", done, total),
            )
            document = as_dict(found)
    if as_json:
        typer.echo(json.dumps(printable(document), indent=2))
    else:
        print_tables(tables(document))
    if is_refused(document):
        raise typer.Exit(1)


def ingest(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC...", help="Folders or files to read.")],
    output: Output,
    format: Annotated[
        str, typer.Option(help="auto, acdc, bids, emidec, mnms, msd, nnunet, ..., or package.module:Class.")
    ] = "auto",
    to: Annotated[
        str | None, typer.Option(help="nnunet, bids or msd: write that layout instead of a dataset.")
    ] = None,
    mask: Annotated[str | None, typer.Option(help="With --to: the mask column to write.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A refused case is an error, and nothing is written.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the assignment to train, val and test.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier dataset.")] = False,
    targets: Annotated[
        Path | None,
        typer.Option(
            help="Table of classes and values, by case_id, study_uid, folder or patient_id.",
            rich_help_panel=DICOM,
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            help="Which volume of a study: modality=MR, description=*SAX*; several have to hold.",
            rich_help_panel=DICOM,
        ),
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(
            help="Labels to take, as NAME=PATTERN, such as GTV=gtv*; all by default.", rich_help_panel=DICOM
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="joined (one mask for all structures), separate, or auto.", rich_help_panel=DICOM),
    ] = None,
    resample_labels: Annotated[
        bool,
        typer.Option(
            "--resample-labels",
            help="Segmentations on another grid take the nearest voxels.",
            rich_help_panel=DICOM,
        ),
    ] = False,
    names: Annotated[
        str | None,
        typer.Option(
            help="What names a case: uid (a digest of its study's) or folder.", rich_help_panel=DICOM
        ),
    ] = None,
    suv: Annotated[
        str | None, typer.Option(help="Unit of PET: bw, lbm, lbm-james or bsa.", rich_help_panel=DICOM)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read DICOM studies or a folder of a known layout; write a dataset: dataset.yaml, cases.csv, volumes.

    [dim]medmtl ingest ACDC/training -o DATASET[/dim]
    """
    from medmtl.data.export import export
    from medmtl.data.ingest import ingest as run

    if to is None and mask is not None:
        raise ConfigError("--mask: a dataset keeps all masks; use it with --to")
    if to is not None and overwrite:
        raise ConfigError("--overwrite: only a dataset is replaced; with --to choose a new folder")
    of_dicom = {
        "targets": targets, "select": select, "structures": structure, "labels": labels,
        "resample_labels": resample_labels, "names": names, "suv": suv,
    }  # fmt: skip
    made: Any
    with progress_bars() as progress:
        options: Any = {
            "format": _with_options(format, {name: value for name, value in of_dicom.items() if value}),
            "strict": strict,
            "seed": seed,
            "progress": lambda done, total: progress("ingest", done, total),
        }
        if to is None:
            made = run(sources, output, overwrite=overwrite, **options)
        else:
            made = export(sources, output, to=to, mask=mask, **options)
    if as_json:
        counts = {"dataset": str(output), "cases": made.cases} if to is None else _exported(made)
        refused = [{"case_id": f.case_id, "code": f.code, "message": f.message} for f in made.refused]
        typer.echo(json.dumps({**counts, "recognized": made.recognized, "refused": refused}, indent=2))
    else:
        typer.echo(f"read as {made.recognized}")
        if to is None:
            typer.echo(f"{made.cases} cases in {output}; {len(made.findings)} findings in findings.csv")
        else:
            typer.echo(f"{made.written.cases} cases ({made.written.volumes} volumes) as {to} in {output}")
            for note in _exported(made)["notes"]:
                typer.echo(f"note: {note}")
    exit_with_list([f"{f.case_id}: {f.code}: {f.message}" for f in made.refused], "refused", quiet=as_json)


def _with_options(format: str, of_dicom: dict[str, Any]) -> Any:
    """The format by its name, or DICOM with what was asked for."""
    if not of_dicom:
        return format
    if format not in ("auto", "dicom"):
        option = next(iter(of_dicom)).replace("structures", "structure").replace("_", "-")
        raise ConfigError(f"--{option}: is for DICOM, and --format is {format}; leave one of them out")
    from medmtl.data.formats.dicom import Dicom

    return Dicom(**of_dicom)


def _exported(made: Any) -> dict[str, Any]:
    """What an export made, for programs."""
    notes = [finding.message for finding in made.written.remarks] + ([made.note] if made.note else [])
    counts = {"cases": made.written.cases, "volumes": made.written.volumes}
    return {"output": str(made.path), "layout": made.layout, **counts, "notes": notes}
