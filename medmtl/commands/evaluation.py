"""The verbs that end in a report: demo, evaluate and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from medmtl.commands.shared import (
    AsJson,
    DatasetFolder,
    Device,
    Mirror,
    Output,
    exit_with_list,
    progress_bars,
)


def demo(
    output: Output = Path("demo"),
    cases: Annotated[int, typer.Option(min=10, help="Phantoms, of which a fifth is held out.")] = 80,
    seed: Annotated[int, typer.Option(min=0, help="Of the cohort and the training.")] = 0,
) -> None:
    """Phantom study -> train -> predict -> evaluate -> report, in a few minutes on a CPU.

    [dim]medmtl demo -o demo[/dim]
    """
    from medmtl import verbs

    with progress_bars() as progress:
        made = verbs.demo(output, cases=cases, seed=seed, progress=progress)
    _print_metrics(made.evaluation.metrics)
    typer.echo(f"\nOpen {made.report.resolve().as_uri()} in a browser.")


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder, RUN folder, or a folder of predictions.")],
    dataset: DatasetFolder,
    output: Output,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    device: Device = "auto",
    mirror: Mirror = False,
    as_json: AsJson = False,
) -> None:
    """Compare a model, or predictions made elsewhere, with a dataset's labels.

    [dim]medmtl evaluate RUN/model DATASET -o EVALUATION --split test[/dim]
    """
    from medmtl import verbs

    with progress_bars() as progress:
        found = verbs.evaluate(
            model, dataset, split=split, output=output, device=device, mirror=mirror, progress=progress
        )
    if as_json:
        typer.echo(json.dumps(found.metrics, indent=2))
    else:
        _print_metrics(found.metrics)
        typer.echo(f"\nreport: {found.path / 'report.html'}")
    exit_with_list(
        [f"{m.case_id}: {m.code or m.status}: {m.message}" for m in found.missing],
        "not scored",
        quiet=as_json,
    )


def report(
    folder: Annotated[Path, typer.Argument(help="RUN, EVALUATION, PREDICTIONS or comparison folder.")],
) -> None:
    """Draw report.html again.

    [dim]medmtl report EVALUATION[/dim]
    """
    from medmtl.report import build_report

    typer.echo(str(build_report(folder)))


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
