"""The verb that runs a model on studies, and says how far it has come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from medmtl.commands.shared import DICOM, AsJson, Device, Mirror, UsageError, exit_with_list, progress_bars

_MANY = "Of many studies"
"""Panel of options that few studies do not need."""


def predict(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL SRC...",
            help="Model or RUN folder; then folders, files, archives, datasets or dicomweb+https addresses. "
            "With --status, the folder that is written to.",
        ),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write to.")] = None,
    tasks: Annotated[str, typer.Option(help="Tasks wanted, separated by commas; all by default.")] = "",
    write: Annotated[
        str, typer.Option(help="Of nifti, seg, labelmap, sr, csv; the DICOM ones where the source is DICOM.")
    ] = "nifti,seg,sr,csv",
    send: Annotated[
        str, typer.Option(help="DICOMweb address that takes SEG and SR, or source.", rich_help_panel=DICOM)
    ] = "",
    select: Annotated[
        list[str] | None,
        typer.Option(
            help="Which series, such as 'modality=MR,frames=10-40,description=*SAX*'.", rich_help_panel=DICOM
        ),
    ] = None,
    pseudonymize: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="Name everything by a keyed hash.", rich_help_panel=DICOM),
    ] = None,
    split: Annotated[str, typer.Option(help="Of a dataset: train, val, test or all.")] = "all",
    device: Device = "auto",
    mirror: Mirror = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes; by default one per GPU or core, none for a few studies.", rich_help_panel=_MANY
        ),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler to use.", rich_help_panel=_MANY)
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds that one study may take; 0 is no limit.", rich_help_panel=_MANY)
    ] = 3600.0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do failed studies once more.", rich_help_panel=_MANY)
    ] = False,
    status: Annotated[
        bool,
        typer.Option(
            "--status", help="Say how far OUT has come, and do nothing else.", rich_help_panel=_MANY
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a model on studies; writes NIfTI, DICOM SEG and SR, predictions.csv, a journal and a report.

    [dim]medmtl predict RUN/model studies/ -o OUT --tasks anatomy,function[/dim]
    [dim]medmtl predict --status OUT[/dim]

    The same command goes on where an earlier one was ended.
    """
    if status:
        _tell_status([*map(Path, arguments), *([output] if output else [])], as_json)
        return
    model, sources = arguments[0], arguments[1:]
    if not sources:
        raise UsageError("a model and at least one source are needed: medmtl predict MODEL SRC... -o OUT")
    if output is None:
        raise UsageError("no folder to write to: medmtl predict MODEL SRC... -o OUT")
    from medmtl import verbs
    from medmtl.inference.options import split_names

    with progress_bars() as progress:
        run = verbs.predict(
            Path(model),
            sources,
            output=output,
            tasks=split_names(tasks) or None,
            write=split_names(write),
            send=send,
            split=split,
            select=",".join(select or ()),
            pseudonymize=pseudonymize,
            timeout=timeout or None,
            device=device,
            mirror=mirror,
            workers=workers,
            dask=dask,
            retry_failed=retry_failed,
            progress=progress,
        )
    if as_json:
        typer.echo(run.table.to_json(orient="records", indent=2))
    else:
        done = int((run.table["status"] == "ok").sum())
        typer.echo(
            f"{done} of {len(run.table)} studies predicted, {run.done} in this call; results in {run.folder}"
        )
        if (run.table["status"] == "failed").any():
            typer.echo("failed ones are left as they are; add --retry-failed to do them once more")
    exit_with_list(
        [f"{f.case_id}: {f.code}: {f.message}" for f in run.findings], "not predicted", quiet=as_json
    )


def _tell_status(folders: Sequence[Path], as_json: bool) -> None:
    """How far a prediction has come; loads nothing heavy."""
    from dataclasses import asdict

    from medmtl.inference.status import read_status

    if len(folders) != 1:
        raise UsageError("--status takes one folder: medmtl predict --status OUT")
    found = read_status(folders[0])
    if as_json:
        typer.echo(json.dumps({**asdict(found), "done": found.done, "total": found.total}, indent=2))
        return
    known = "" if found.found_all else " found so far"
    typer.echo(
        f"{found.done} of {found.total} studies{known} done" + ("" if found.running else "; not running")
    )
    shown = [f"{count} {state}" for state, count in sorted(found.counts.items()) if count]
    typer.echo(", ".join(shown))
    if found.per_hour is not None:
        typer.echo(
            f"{found.per_hour:.0f} studies per hour, {_duration(found.seconds_left or 0)} left at that rate"
        )
    for code, count in found.codes.items():
        typer.echo(f"{count:6d}  {code}")


def _duration(seconds: float) -> str:
    """``90000`` -> ``1 d 1 h``."""
    minutes = round(seconds / 60)
    days, hours = divmod(minutes // 60, 24)
    parts = [
        f"{days} d" if days else "",
        f"{hours} h" if hours else "",
        f"{minutes % 60} min" if not days else "",
    ]
    return " ".join(part for part in parts if part) if minutes else f"{seconds:.0f} s"
