"""The verbs that lead to a model: plan, train and import; and the schema of what train reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from medmtl.commands.shared import (
    Config,
    ConfigDevice,
    DatasetFolder,
    Output,
    Overrides,
    exit_with_list,
    progress_bars,
)
from medmtl.types import ConfigError, OutputError


def plan(
    dataset: DatasetFolder,
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

    with progress_bars() as progress:
        text = verbs.plan(dataset, output, slices=slices, memory_gib=memory, device=device, progress=progress)
    typer.echo(text, nl=False)


def train(
    config: Config,
    output: Output,
    overrides: Overrides = None,
    resume: Annotated[str, typer.Option(help="auto: go on where the run in OUTPUT stopped.")] = "never",
    device: ConfigDevice = None,
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

    if resume not in ("auto", "never"):
        raise ConfigError(f"--resume: {resume!r} is not known; use auto or never")
    if fold is not None and fold != "all" and not fold.isdecimal():
        raise ConfigError(f"--fold: {fold!r} is no fold; use 0, 1, ... or all")
    options: dict[str, Any] = {"output": output, "resume": resume == "auto", "device": device}
    with progress_bars(quiet=not speaks()) as progress, together():
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
    exit_with_list(list(refused.values()), "left out of training")


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

    text = json.dumps(json_schema(), indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.exists() and not (output.is_file() and SCHEMA_TITLE in output.read_text(errors="replace")):
        raise OutputError(f"{output}: exists and is no schema of medmtl; choose another file")
    write_text(output, text)
