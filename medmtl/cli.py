"""The command line. Nothing heavy is imported before a verb runs, so that ``--help`` answers at once."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from medmtl._version import __version__
from medmtl.types import MedmtlError, RankError

app = typer.Typer(
    help="Multi-task learning on medical volumes: one network, many tasks, weights that balance themselves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")]


UsageError: Any = typer.BadParameter.__mro__[2]
"""Base of all that a wrong call raises; typer has it from click, or carries its own, and does not name it."""
_WIDTH = 140
"""Columns of a table that is not written to a terminal."""
_LINE, _GRID, _EVOLUTION = "Of --method line", "Of --method grid", "Of --method evolution"
_DICOM, _MANY = "Of DICOM studies", "Of many studies"
"""Panels of options that not every call needs."""
STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Run the command line; an error that a user can mend is one sentence and an exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code of a call: 0 all done, 1 some cases were refused or failed, 2 nothing could be done."""
    try:
        with _warnings():
            code = int(app(list(arguments), prog_name="medmtl", standalone_mode=False) or 0)
    except typer.Abort:
        code = STOPPED
    except MedmtlError as error:
        if not (isinstance(error, RankError) and error.told):
            typer.echo(f"error: {error}", err=True)
        return error.exit_code
    except UsageError as error:
        error.show()
        return 2
    except OSError as error:
        typer.echo(f"error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        return 2
    if code == STOPPED:
        typer.echo("stopped", err=True)
    return code


@contextmanager
def _warnings() -> Iterator[None]:
    """Show warnings on stderr while a verb runs."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("medmtl")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Multi-task learning on medical volumes: one network, many tasks, weights that balance themselves."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    output: Output = Path("demo"),
    cases: Annotated[int, typer.Option(min=10, help="Phantoms, of which a fifth is held out.")] = 80,
    seed: Annotated[int, typer.Option(min=0, help="Of the cohort and the training.")] = 0,
) -> None:
    """Phantom study -> train -> predict -> evaluate -> report, in a few minutes on a CPU.

    [dim]medmtl demo -o demo[/dim]
    """
    from medmtl import verbs

    with _progress() as progress:
        made = verbs.demo(output, cases=cases, seed=seed, progress=progress)
    _print_metrics(made.evaluation.metrics)
    typer.echo(f"\nOpen {made.report.resolve().as_uri()} in a browser.")


@app.command()
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

    missing = next((source for source in sources if not source.exists()), None)
    if missing is not None:
        raise UsageError(f"{missing}: there is no such file or folder")
    remembered = default_cache() if cache else None
    with _progress() as progress:

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
        _print_scan(document)
    if is_refused(document):
        raise typer.Exit(1)


@app.command()
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
            rich_help_panel=_DICOM,
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            help="Which volume of a study: modality=MR, description=*SAX*; several have to hold.",
            rich_help_panel=_DICOM,
        ),
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(
            help="Labels to take, as NAME=PATTERN, such as GTV=gtv*; all by default.", rich_help_panel=_DICOM
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="joined (one mask for all structures), separate, or auto.", rich_help_panel=_DICOM),
    ] = None,
    resample_labels: Annotated[
        bool,
        typer.Option(
            "--resample-labels",
            help="Segmentations on another grid take the nearest voxels.",
            rich_help_panel=_DICOM,
        ),
    ] = False,
    names: Annotated[
        str | None,
        typer.Option(
            help="What names a case: uid (a digest of its study's) or folder.", rich_help_panel=_DICOM
        ),
    ] = None,
    suv: Annotated[
        str | None, typer.Option(help="Unit of PET: bw, lbm, lbm-james or bsa.", rich_help_panel=_DICOM)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read DICOM studies or a folder of a known layout; write a dataset: dataset.yaml, cases.csv, volumes.

    [dim]medmtl ingest ACDC/training -o DATASET[/dim]
    """
    from medmtl.data.export import export
    from medmtl.data.ingest import ingest as run
    from medmtl.types import ConfigError

    if to is None and mask is not None:
        raise ConfigError("--mask: a dataset keeps all masks; use it with --to")
    if to is not None and overwrite:
        raise ConfigError("--overwrite: only a dataset is replaced; with --to choose a new folder")
    of_dicom = {
        "targets": targets, "select": select, "structures": structure, "labels": labels,
        "resample_labels": resample_labels, "names": names, "suv": suv,
    }  # fmt: skip
    made: Any
    with _progress() as progress:
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
    _exit_with_list([f"{f.case_id}: {f.code}: {f.message}" for f in made.refused], "refused", quiet=as_json)


def _with_options(format: str, of_dicom: dict[str, Any]) -> Any:
    """The format by its name, or DICOM with what was asked for."""
    from medmtl.types import ConfigError

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


@app.command()
def plan(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path("plan.yaml"),
    slices: Annotated[
        str, typer.Option(help="Thick slices: keep them, or resample them by nnU-Net's rule.")
    ] = "keep",
    memory: Annotated[
        float | None, typer.Option(min=0.1, help="GiB to plan for; by default what there is, at most 8.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda, where it will be trained.")] = "auto",
) -> None:
    """Choose spacing, patch, network, normalization and batch size from the data, and say why.

    [dim]medmtl plan DATASET -o plan.yaml; medmtl train CONFIG plan=plan.yaml dataset=DATASET -o RUN[/dim]
    """
    from medmtl import verbs

    with _progress() as progress:
        text = verbs.plan(dataset, output, slices=slices, memory_gib=memory, device=device, progress=progress)
    typer.echo(text, nl=False)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="Experiment config (YAML).")],
    output: Output,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value on top of the config.")] = None,
    resume: Annotated[str, typer.Option(help="auto: go on where the run in OUTPUT stopped.")] = "never",
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N; the config's by default.")
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(metavar="K|all", help="Of a cross-validation, counted from 0, or all of them."),
    ] = None,
) -> None:
    """Train the tasks of a config into one model.

    [dim]medmtl train configs/acdc.yaml dataset=DATASET training.epochs=10 -o RUN --device cuda[/dim]

    [dim]medmtl train configs/acdc.yaml dataset=DATASET --fold all -o RUNS; medmtl predict RUNS ...[/dim]
    """
    from medmtl import verbs
    from medmtl.engine import speaks, together
    from medmtl.types import ConfigError

    if resume not in ("auto", "never"):
        raise ConfigError(f"--resume: {resume!r} is not known; use auto or never")
    if fold is not None and fold != "all" and not fold.isdecimal():
        raise ConfigError(f"--fold: {fold!r} is no fold; use 0, 1, ... or all")
    options: dict[str, Any] = {"output": output, "resume": resume == "auto", "device": device}
    with _progress(quiet=not speaks()) as progress, together():
        if fold == "all":
            runs = verbs.train_folds(config, overrides=overrides or (), progress=progress, **options)
        else:
            more = [] if fold is None else [f"fold={fold}"]
            runs = [verbs.train(config, overrides=[*(overrides or ()), *more], progress=progress, **options)]
    if not speaks():
        return
    for run in runs:
        kept, score = run.model.metadata["kept"], run.best_score
        typer.echo(f"model (weights of {kept}, validation score {score:.3f}) in {run.folder / 'model'}")
    refused = {f.case_id: f"{f.case_id}: {f.code}: {f.message}" for run in runs for f in run.refused}
    _exit_with_list(list(refused.values()), "left out of training")


@app.command("import")
def import_model(
    results: Annotated[
        Path, typer.Argument(help="nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION of nnU-Net v2.")
    ],
    output: Output,
    fold: Annotated[str, typer.Option(help="0 to 4, or all.")] = "0",
    checkpoint: Annotated[str, typer.Option(help="final, best or latest.")] = "final",
) -> None:
    """Take over a network that nnU-Net trained, as a model folder.

    [dim]medmtl import nnUNet_results/Dataset027_ACDC/nnUNetTrainer__nnUNetPlans__3d_fullres -o MODEL[/dim]
    """
    from medmtl import verbs

    model = verbs.import_nnunet(results, output=output, fold=fold, checkpoint=checkpoint)
    typer.echo(f"model ({', '.join(model.columns['anatomy'].labels)}) in {output}")
    typer.echo(f"add tasks: medmtl train CONFIG plan={output}/plan.yaml training.start_from={output} -o RUN")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder, RUN folder, or a folder of predictions.")],
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    output: Output,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    device: Device = "auto",
    mirror: Annotated[bool, typer.Option("--mirror", help="Average dense tasks over mirror images.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare a model, or predictions made elsewhere, with a dataset's labels.

    [dim]medmtl evaluate RUN/model DATASET -o EVALUATION --split test[/dim]
    """
    from medmtl import verbs

    with _progress() as progress:
        found = verbs.evaluate(
            model, dataset, split=split, output=output, device=device, mirror=mirror, progress=progress
        )
    if as_json:
        typer.echo(json.dumps(found.metrics, indent=2))
    else:
        _print_metrics(found.metrics)
        typer.echo(f"\nreport: {found.path / 'report.html'}")
    _exit_with_list(
        [f"{m.case_id}: {m.code or m.status}: {m.message}" for m in found.missing],
        "not scored",
        quiet=as_json,
    )


@app.command()
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
        str, typer.Option(help="DICOMweb address that takes SEG and SR, or source.", rich_help_panel=_DICOM)
    ] = "",
    select: Annotated[
        list[str] | None,
        typer.Option(
            help="Which series, such as 'modality=MR,frames=10-40,description=*SAX*'.", rich_help_panel=_DICOM
        ),
    ] = None,
    pseudonymize: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="Name everything by a keyed hash.", rich_help_panel=_DICOM),
    ] = None,
    split: Annotated[str, typer.Option(help="Of a dataset: train, val, test or all.")] = "all",
    device: Device = "auto",
    mirror: Annotated[bool, typer.Option("--mirror", help="Average dense tasks over mirror images.")] = False,
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

    with _progress() as progress:
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
    _exit_with_list(
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


@app.command()
def compare(
    config: Annotated[Path, typer.Argument(help="Experiment config (YAML).")],
    output: Output,
    weightings: Annotated[
        str,
        typer.Option(help="Such as 'ew,uw,uw-so(temperature=5)', or all: every one that needs no extra."),
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value on top of the config.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each method.")] = 3,
    split: Annotated[str, typer.Option(help="Cases to compare on: test or val.")] = "test",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="task=metric that delta-m is made of; task=none leaves the task out of it."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Method that the others are tested against; ew by default.")
    ] = None,
    search_lr: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Try N learning rates and weight decays for each method."),
    ] = 0,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N; the config's by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare task weightings with each other and with a network for each task alone.

    Stopped at any time, the same call goes on where it was; more methods and seeds may be added to OUTPUT.

    [dim]medmtl compare configs/acdc.yaml dataset=DATASET --weightings ew,uw,uw-so --seeds 3 -o OUT[/dim]

    [dim]medmtl compare config.yaml --weightings "ew,uw-so(temperature=2),uw-so(temperature=20)" -o OUT[/dim]
    """
    from medmtl import verbs

    with _progress() as progress:
        found = verbs.compare(
            config,
            weightings=weightings,
            output=output,
            seeds=seeds,
            overrides=overrides or (),
            split=split,
            metrics=metric or (),
            reference=reference,
            search_lr=search_lr,
            device=device,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _print_comparison(found.summary)
        typer.echo(f"\ntable: {found.folder / 'compare.csv'}; report: {found.folder / 'report.html'}")
    if not as_json:
        for name, why in found.failed.items():
            typer.echo(f"not trained: {name}: {why}", err=True)
    _exit_with_list([f"{name}: {why}" for name, why in found.refused.items()], "left out", quiet=as_json)
    if found.failed:
        raise typer.Exit(1)


@app.command()
def search(
    config: Annotated[Path, typer.Argument(help="Experiment config (YAML).")],
    output: Output,
    method: Annotated[str, typer.Option(help="line, grid or evolution.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value on top of the config.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Database, or journal file; OUTPUT/journal.log by default."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trainings in all; by default what the method says it needs.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="task=metric of the objective, or task=none; validation scores by default."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Stop trainings that stay below the median of the others.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the search, not of the trainings; grid and evolution.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Number to search; UW-SO's temperature.", rich_help_panel=_LINE)
    ] = None,
    low: Annotated[float | None, typer.Option(help="Least value; 1.", rich_help_panel=_LINE)] = None,
    high: Annotated[float | None, typer.Option(help="Greatest value; 100.", rich_help_panel=_LINE)] = None,
    coarse: Annotated[
        int | None, typer.Option(min=2, help="Values over the whole range; 7.", rich_help_panel=_LINE)
    ] = None,
    fine: Annotated[
        int | None, typer.Option(min=0, help="Values around the best of these; 6.", rich_help_panel=_LINE)
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(min=2, help="Weights in steps of 1/N; 10.", rich_help_panel=_GRID)
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(min=1, help="Drawn where the grid has more than 100; 100.", rich_help_panel=_GRID),
    ] = None,
    range_: Annotated[
        list[str] | None,
        typer.Option("--range", help="task=LOW..HIGH of its weight.", rich_help_panel=_EVOLUTION),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="Search along key=LOW..HIGH or key=A,B,C too.", rich_help_panel=_EVOLUTION),
    ] = None,
    asynchronous: Annotated[
        bool | None,
        typer.Option(help="Search how often each task takes part; yes.", rich_help_panel=_EVOLUTION),
    ] = None,
    transfer: Annotated[
        bool | None,
        typer.Option(help="Continue from the best model so far; yes.", rich_help_panel=_EVOLUTION),
    ] = None,
    transfer_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs then; a quarter of the config's.", rich_help_panel=_EVOLUTION),
    ] = None,
    initial: Annotated[
        int | None, typer.Option(min=1, help="Trainings of the first round; 4.", rich_help_panel=_EVOLUTION)
    ] = None,
    children: Annotated[
        int | None, typer.Option(min=1, help="Trainings of a later round; 4.", rich_help_panel=_EVOLUTION)
    ] = None,
    parents: Annotated[
        int | None, typer.Option(min=1, help="Of which they descend; 2.", rich_help_panel=_EVOLUTION)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N; the config's by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search task weights, UW-SO's temperature or other values by training with them.

    The same call continues a search that was stopped, and takes part in one that is going on.

    [dim]medmtl search configs/acdc.yaml dataset=DATASET --method line -o SEARCH[/dim]

    [dim]medmtl search configs/acdc.yaml dataset=DATASET --method grid --resolution 10 -o SEARCH[/dim]

    [dim]medmtl search configs/acdc.yaml dataset=DATASET --method evolution --trials 20 -o SEARCH[/dim]
    """
    from medmtl import verbs

    with _progress() as progress:
        found = verbs.search(
            config, method=method, output=output, overrides=overrides or (), storage=storage, trials=trials,
            metrics=metric or (), prune=prune, device=device, progress=progress,
            announce=lambda text: typer.echo(text, err=True),
            seed=seed, key=key, low=low, high=high, coarse=coarse, fine=fine, resolution=resolution,
            points=points, ranges=range_, vary=vary, asynchronous=asynchronous, transfer=transfer,
            transfer_epochs=transfer_epochs, initial=initial, children=children, parents=parents,
        )  # fmt: skip
    if as_json:
        typer.echo(found.to_json())
    else:
        typer.echo(found.summary())
    lines = [f"{trial.name}: {trial.message}" for trial in found.failed]
    _exit_with_list(lines, "not trained", unit="trial", quiet=as_json)
    if found.best is None:
        raise typer.Exit(1)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="RUN, EVALUATION, PREDICTIONS or comparison folder.")],
) -> None:
    """Draw report.html again.

    [dim]medmtl report EVALUATION[/dim]
    """
    from medmtl.report import build_report

    typer.echo(str(build_report(folder)))


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; printed by default.")
    ] = None,
) -> None:
    """Print the JSON Schema of configs, which editors use to complete and check them.

    [dim]medmtl schema -o configs/schema.json[/dim]
    """
    from medmtl.config import SCHEMA_TITLE, json_schema
    from medmtl.files import write_text
    from medmtl.types import OutputError

    text = json.dumps(json_schema(), indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.exists() and not (output.is_file() and SCHEMA_TITLE in output.read_text(errors="replace")):
        raise OutputError(f"{output}: exists and is no schema of medmtl; choose another file")
    write_text(output, text)


def _exit_with_list(lines: list[str], what: str, *, unit: str = "case", quiet: bool = False) -> None:
    """Exit 1 with the cases, or other units, that did not make it; return when there are none."""
    if not lines:
        return
    if not quiet:
        count = f"1 {unit} was" if len(lines) == 1 else f"{len(lines)} {unit}s were"
        typer.echo(f"\n{count} {what}:", err=True)
        for line in lines:
            typer.echo(f"  {line}", err=True)
    raise typer.Exit(1)


def _print_metrics(metrics: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "metric", "value", "95 % interval", "n")
    for task, found in metrics.items():
        for name, entry in found.items():
            if name.count(".") > 1 or entry["value"] is None or name.split(".")[0] in ("loa_low", "loa_high"):
                continue
            low, high = entry["ci_low"], entry["ci_high"]
            interval = "" if low is None or high is None else f"{low:.3g} to {high:.3g}"
            table.add_row(
                task, name, f"{entry['value']:.3g} {entry['unit']}".strip(), interval, str(entry["n"])
            )
    Console().print(table)


def _print_comparison(summary: Any) -> None:
    from rich.console import Console

    from medmtl.report.comparison import console_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(console_table(summary))
    for note in summary["notes"]:
        typer.echo(f"note: {note}")


def _print_scan(document: Any) -> None:
    from rich.console import Console

    from medmtl.report.scan_table import tables

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    for part in tables(document):
        console.print(part)


@contextmanager
def _progress(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as shown:

        def update(what: str, done: int, total: int) -> None:
            if what not in bars or (
                shown.tasks[bars[what]].finished and total != shown.tasks[bars[what]].total
            ):
                bars[what] = shown.add_task(what, total=total)
            shown.update(bars[what], completed=done, total=total)

        yield update
