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
from medmtl.types import MedmtlError

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
def ingest(
    source: Annotated[Path, typer.Argument(help="Folder to read.")],
    output: Output,
    format: Annotated[str, typer.Option(help="auto, acdc, phantom, or package.module:Class.")] = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="A refused case is an error, and nothing is written.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the assignment to train, val and test.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier dataset.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read a folder of a known layout and write a dataset: dataset.yaml, cases.csv, volumes.

    [dim]medmtl ingest ACDC/training -o DATASET[/dim]
    """
    from medmtl.data.ingest import ingest as run

    with _progress() as progress:
        made = run(
            source, output, format=format, strict=strict, seed=seed, overwrite=overwrite,
            progress=lambda done, total: progress("ingest", done, total),
        )  # fmt: skip
    result = {
        "dataset": str(made.dataset_path),
        "cases": made.cases,
        "refused": [{"case_id": f.case_id, "code": f.code, "message": f.message} for f in made.refused],
    }
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        typer.echo(
            f"{made.cases} cases in {made.dataset_path}; {len(made.findings)} findings in findings.csv"
        )
    _exit_with_list([f"{f.case_id}: {f.code}: {f.message}" for f in made.refused], "refused", quiet=as_json)


@app.command()
def plan(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path("plan.yaml"),
) -> None:
    """Choose spacing, patch, kernels and strides from the data.

    [dim]medmtl plan DATASET -o plan.yaml[/dim]
    """
    import yaml

    from medmtl.config import DEFAULT_WIDTHS
    from medmtl.data.dataset import open_dataset
    from medmtl.files import write_text
    from medmtl.plan import fingerprint, make_plan
    from medmtl.types import OutputError

    if output.exists():
        raise OutputError(f"{output}: exists; remove it or choose another file")
    opened = open_dataset(dataset)
    cases = opened.select("train") or opened.cases
    made = make_plan(fingerprint(opened, cases), backbone={"type": "unet", "widths": list(DEFAULT_WIDTHS)})
    text = yaml.safe_dump(made.as_dict(), sort_keys=False)
    write_text(output, text)
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
) -> None:
    """Train the tasks of a config into one model.

    [dim]medmtl train configs/acdc.yaml dataset=DATASET training.epochs=10 -o RUN --device cuda[/dim]
    """
    from medmtl import verbs
    from medmtl.types import ConfigError

    if resume not in ("auto", "never"):
        raise ConfigError(f"--resume: {resume!r} is not known; use auto or never")
    with _progress() as progress:
        run = verbs.train(
            config,
            output=output,
            overrides=overrides or (),
            resume=resume == "auto",
            device=device,
            progress=progress,
        )
    kept = run.model.metadata["kept"]
    typer.echo(f"model (weights of {kept}, validation score {run.best_score:.3f}) in {run.folder / 'model'}")
    _exit_with_list([f"{f.case_id}: {f.code}: {f.message}" for f in run.refused], "left out of training")


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
    model: Annotated[Path, typer.Argument(help="Model folder or RUN folder.")],
    source: Annotated[Path, typer.Argument(help="NIfTI file, folder of NIfTI files, or dataset.")],
    output: Output,
    tasks: Annotated[str, typer.Option(help="Tasks wanted, separated by commas; all by default.")] = "",
    split: Annotated[str, typer.Option(help="Of a dataset: train, val, test or all.")] = "all",
    device: Device = "auto",
    mirror: Annotated[bool, typer.Option("--mirror", help="Average dense tasks over mirror images.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a model on new cases; writes NIfTI files, predictions.csv and a report.

    [dim]medmtl predict RUN/model cine.nii.gz -o PREDICTIONS --tasks anatomy,function[/dim]
    """
    from medmtl import verbs

    names = [name.strip() for name in tasks.split(",") if name.strip()] or None
    with _progress() as progress:
        run = verbs.predict(
            model,
            source,
            output=output,
            tasks=names,
            split=split,
            device=device,
            mirror=mirror,
            progress=progress,
        )
    if as_json:
        typer.echo(run.table.to_json(orient="records", indent=2))
    else:
        done = int((run.table["status"] == "ok").sum())
        typer.echo(f"{done} of {len(run.table)} cases predicted; table: {run.folder / 'predictions.csv'}")
    _exit_with_list(
        [f"{f.case_id}: {f.code}: {f.message}" for f in run.findings], "not predicted", quiet=as_json
    )


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="RUN, EVALUATION or PREDICTIONS folder.")]) -> None:
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


def _exit_with_list(lines: list[str], what: str, *, quiet: bool = False) -> None:
    """Exit 1 with the cases that did not make it; return when there are none."""
    if not lines:
        return
    if not quiet:
        count = "1 case was" if len(lines) == 1 else f"{len(lines)} cases were"
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


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:

        def update(what: str, done: int, total: int) -> None:
            if what not in bars or shown.tasks[bars[what]].total != total:
                bars[what] = shown.add_task(what, total=total)
            shown.update(bars[what], completed=done)

        yield update
