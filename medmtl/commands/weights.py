"""The verbs that are about task weights: compare and search."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from medmtl.commands.shared import (
    AsJson,
    Config,
    ConfigDevice,
    Output,
    Overrides,
    exit_with_list,
    print_tables,
    progress_bars,
)

_LINE, _GRID, _EVOLUTION = "Of --method line", "Of --method grid", "Of --method evolution"
"""Panels of options that only one method takes."""


def compare(
    config: Config,
    output: Output,
    weightings: Annotated[
        str,
        typer.Option(help="Such as 'ew,uw,uw-so(temperature=5)', or all: every one that needs no extra."),
    ],
    overrides: Overrides = None,
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
    device: ConfigDevice = None,
    as_json: AsJson = False,
) -> None:
    """Compare task weightings with each other and with a network for each task alone.

    Stopped at any time, the same call goes on where it was; more methods and seeds may be added to OUTPUT.

    [dim]medmtl compare configs/acdc.yaml dataset=DATASET --weightings ew,uw,uw-so --seeds 3 -o OUT[/dim]

    [dim]medmtl compare config.yaml --weightings "ew,uw-so(temperature=2),uw-so(temperature=20)" -o OUT[/dim]
    """
    from medmtl import verbs
    from medmtl.report.comparison import console_table

    with progress_bars() as progress:
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
        print_tables([console_table(found.summary)])
        for note in found.summary["notes"]:
            typer.echo(f"note: {note}")
        typer.echo(f"\ntable: {found.folder / 'compare.csv'}; report: {found.folder / 'report.html'}")
        for name, why in found.failed.items():
            typer.echo(f"not trained: {name}: {why}", err=True)
    exit_with_list([f"{name}: {why}" for name, why in found.refused.items()], "left out", quiet=as_json)
    if found.failed:
        raise typer.Exit(1)


def search(
    config: Config,
    output: Output,
    method: Annotated[str, typer.Option(help="line, grid or evolution.")],
    overrides: Overrides = None,
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
    device: ConfigDevice = None,
    as_json: AsJson = False,
) -> None:
    """Search task weights, UW-SO's temperature or other values by training with them.

    The same call continues a search that was stopped, and takes part in one that is going on.

    [dim]medmtl search configs/acdc.yaml dataset=DATASET --method line -o SEARCH[/dim]

    [dim]medmtl search configs/acdc.yaml dataset=DATASET --method grid --resolution 10 -o SEARCH[/dim]

    [dim]medmtl search configs/acdc.yaml dataset=DATASET --method evolution --trials 20 -o SEARCH[/dim]
    """
    from medmtl import verbs

    with progress_bars() as progress:
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
    exit_with_list(lines, "not trained", unit="trial", quiet=as_json)
    if found.best is None:
        raise typer.Exit(1)
