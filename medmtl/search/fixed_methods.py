"""Searches whose rounds are known beforehand: a line through one number, a grid of weights."""

from __future__ import annotations

from typing import Any

from medmtl.engine import Job
from medmtl.search.described import WEIGHT, Method, common_options
from medmtl.search.line import COARSE, FINE, LineSearch
from medmtl.search.rounds import Params
from medmtl.search.simplex import RESOLUTION, SimplexGrid, SimplexSample
from medmtl.search.space import Number, is_logarithmic
from medmtl.types import ConfigError

TEMPERATURE = "weighting.temperature"
TEMPERATURES = (1.0, 100.0)
MOST_POINTS = 100
"""A larger grid is not gone through; so many points are drawn instead."""


def line_method(
    base: Job,
    *,
    key: str | None = None,
    low: float | None = None,
    high: float | None = None,
    coarse: int = COARSE,
    fine: int = FINE,
    whole: bool = False,
) -> Method:
    """Line search of UW-SO's temperature, or of any other number of the config.

    Args:
        base: the config's job.
        key: such as ``training.learning_rate``; without one the weighting becomes ``uw-so`` and its
            temperature is searched.
        low: least value; 1 for temperatures.
        high: greatest value; 100 for temperatures.
        coarse: points of the first stage.
        fine: points of the second stage.
        whole: only whole numbers.

    Raises:
        ConfigError: no range for a key that is no temperature, or one that is empty.
    """
    name = key or TEMPERATURE
    if name == TEMPERATURE:
        low, high = (
            end if given is None else given for given, end in zip((low, high), TEMPERATURES, strict=True)
        )
    if low is None or high is None:
        raise ConfigError(f"--key {name}: give its range with --low and --high")
    over = Number(low, high, log=is_logarithmic(low, high), whole=whole)
    strategy = LineSearch(name, over, coarse=coarse, fine=fine)
    section = dict(base.weighting)
    kept = section if section.get("type") == "uw-so" else common_options(section)
    kept = {option: value for option, value in kept.items() if option not in ("type", "effective_tasks")}

    def changes(params: Params) -> dict[str, Any]:
        if key is not None:
            return {key: params[key]}
        return {"weighting": {"type": "uw-so", **kept, "temperature": params[TEMPERATURE]}}

    settings = {"key": name, "low": low, "high": high, "coarse": len(strategy.grid), "fine": fine}
    if key is None:
        settings["weighting"] = "uw-so"
    says = (
        f"{strategy.total()} trainings: {len(strategy.grid)} values of {name} from {low:g} to {high:g}, "
        f"then {fine} around the best"
    )
    return Method("line", strategy, settings, says, strategy.total(), changes)


def grid_method(
    base: Job, *, resolution: int = RESOLUTION, points: int = MOST_POINTS, seed: int = 0
) -> Method:
    """Fixed weights on a grid over the simplex, or drawn evenly where the grid would be too large.

    Args:
        base: the config's job.
        resolution: weights are multiples of 1 / resolution.
        points: how many are drawn where the grid has more than `MOST_POINTS`.
        seed: of the order, or of the draw.

    Raises:
        ConfigError: one task only, or a resolution below the number of tasks.
    """
    tasks = list(base.tasks)
    names = [WEIGHT + task for task in tasks]
    grid = SimplexGrid(names, resolution=resolution, seed=seed)
    strategy: SimplexGrid | SimplexSample = grid
    settings: dict[str, Any] = {"resolution": resolution, "seed": seed}
    if grid.total() > MOST_POINTS:
        strategy = SimplexSample(names, count=points, seed=seed)
        settings = {"points": "drawn", "seed": seed}
        says = (
            f"{points} trainings: points drawn evenly, since {len(tasks)} tasks in steps of 1/{resolution} "
            f"would be {grid.total()}"
        )
    else:
        says = f"{grid.total()} trainings: {len(tasks)} weights in steps of 1/{resolution} that sum to 1"
    kept = common_options(base.weighting)

    def changes(params: Params) -> dict[str, Any]:
        weights = {task: params[WEIGHT + task] for task in tasks}
        return {"weighting": {"type": "scalarization", **kept, "weights": weights}}

    return Method("grid", strategy, settings, says, strategy.total(), changes)
