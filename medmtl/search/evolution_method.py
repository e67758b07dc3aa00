"""The evolution strategy over a config's tasks: which variables, in which ranges, and what they set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medmtl.engine import Job
from medmtl.registry import nearest
from medmtl.search.described import WEIGHT, Method, common_options
from medmtl.search.evolution import CHILDREN, INITIAL, PARENTS, Evolution
from medmtl.search.rounds import Params
from medmtl.search.space import (
    Choice,
    Number,
    Space,
    Variable,
    check_several,
    parse_range,
    parse_variable,
)
from medmtl.types import ConfigError

FIRST_RANGE, RANGE = (0.1, 1000.0), (0.1, 100.0)
"""Weights of the first task and of the others, as the two tasks of Leang et al. have them."""
FREQUENCIES = (1, 10)
TRIALS = 20
"""Configurations by default: the first population and four rounds."""
BUDGET = {"training.epochs", "training.start_from"}
EVERY = "every."
"""Before a task's name: it takes part in every so-manieth step."""


def evolution_method(
    base: Job,
    *,
    ranges: Sequence[str] = (),
    vary: Sequence[str] = (),
    asynchronous: bool = True,
    transfer: bool = True,
    transfer_epochs: int | None = None,
    initial: int = INITIAL,
    children: int = CHILDREN,
    parents: int = PARENTS,
    seed: int = 0,
) -> Method:
    """Evolutionary meta-learning of task weights; see `medmtl.search.evolution`.

    Args:
        base: the config's job.
        ranges: ``task=LOW..HIGH`` of its weight, before all are divided by their sum.
        vary: further variables, ``key=LOW..HIGH`` or ``key=A,B,C``.
        asynchronous: search along how often each task takes part, every step to every tenth.
        transfer: trials continue from the best model of the rounds before.
        transfer_epochs: epochs of these; a quarter of the config's by default.
        initial: trials of the first round.
        children: trials of each later round.
        parents: of which they descend.
        seed: of every draw.

    Raises:
        ConfigError: one task only, an unknown task, or a range or variable that cannot be searched along.
    """
    tasks = list(base.tasks)
    check_several(tasks)
    weighting = _weighting_space(tasks, ranges, asynchronous=asynchronous)
    varied = _varied(vary)
    space = weighting | varied
    epochs = base.training.epochs
    fewer = _transfer_epochs(epochs, transfer_epochs) if transfer else 0
    strategy = Evolution(
        space,
        weights=[WEIGHT + task for task in tasks],
        initial=initial,
        children=children,
        parents=parents,
        continues=transfer,
        first=_first(space, base.resolved),
        seed=seed,
    )
    settings = {
        "space": {name: _said(over) for name, over in space.items()},
        "initial": initial,
        "children": children,
        "parents": parents,
        "transfer_epochs": fewer,
        "seed": seed,
    }
    length = f"{epochs} epochs each"
    if transfer:
        length = f"{epochs} epochs in the first round, then {fewer} from the best model so far"
    says = f"a first population of {initial}, then rounds of {children} children; {length}"
    changes = _changes(base, list(varied), asynchronous=asynchronous)
    return Method("evolution", strategy, settings, says, TRIALS, changes, fewer)


def _weighting_space(
    tasks: Sequence[str], ranges: Sequence[str], *, asynchronous: bool
) -> dict[str, Variable]:
    """Every task's weight and, where asked for, how often it takes part."""
    space: dict[str, Variable] = {WEIGHT + k: v for k, v in _weight_ranges(tasks, ranges).items()}
    if asynchronous:
        space |= {EVERY + task: Number(*FREQUENCIES, whole=True) for task in tasks}
    return space


def _weight_ranges(tasks: Sequence[str], asked: Sequence[str]) -> dict[str, Number]:
    found = {task: Number(*(RANGE if i else FIRST_RANGE), log=True) for i, task in enumerate(tasks)}
    for text in asked:
        task, separator, values = text.partition("=")
        if not separator or task not in found:
            raise ConfigError(f"--range {text}: write task=LOW..HIGH{nearest(task, list(tasks))}")
        given = parse_range(values)
        found[task] = Number(given.low, given.high, log=True)
    return found


def _varied(asked: Sequence[str]) -> dict[str, Variable]:
    varied = dict(parse_variable(text) for text in asked)
    for key in BUDGET & set(varied):
        raise ConfigError(f"--vary {key}: is what a search gives each training, so it is not searched along")
    return varied


def _transfer_epochs(epochs: int, asked: int | None) -> int:
    fewer = max(1, epochs // 4) if asked is None else asked
    if not 1 <= fewer <= epochs:
        raise ConfigError(f"--transfer-epochs: {fewer} is not between 1 and training.epochs ({epochs})")
    return fewer


def _changes(base: Job, varied: Sequence[str], *, asynchronous: bool) -> Callable[[Params], dict[str, Any]]:
    """Fixed weights that sum to 1, frequencies, and the further variables as they are."""
    tasks = list(base.tasks)
    kept = {option: value for option, value in common_options(base.weighting).items() if option != "every"}

    def changes(params: Params) -> dict[str, Any]:
        total = sum(params[WEIGHT + task] for task in tasks)
        weights = {task: float(f"{params[WEIGHT + task] / total:.6g}") for task in tasks}
        section: dict[str, Any] = {"type": "scalarization", **kept, "weights": weights}
        if asynchronous:
            section["every"] = {task: params[EVERY + task] for task in tasks}
        elif "every" in base.weighting:
            section["every"] = base.weighting["every"]
        return {"weighting": section, **{key: params[key] for key in varied}}

    return changes


def _first(space: Space, config: Mapping[str, Any]) -> dict[str, Any]:
    """Equal weights on every step, and what the config has of everything else, brought into range."""
    first: dict[str, Any] = {}
    for name, over in space.items():
        if isinstance(over, Choice):
            own = _at(config, name)
            first[name] = own if own in over.options else over.options[0]
        else:
            fallback = over.low if name.startswith(EVERY) else 1.0 if name.startswith(WEIGHT) else None
            own = _at(config, name) if fallback is None else fallback
            known = isinstance(own, int | float)
            first[name] = over.at(over.place(min(max(own, over.low), over.high)) if known else 0.5)
    return first


def _at(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key, or None."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _said(over: Variable) -> Any:
    return list(over.options) if isinstance(over, Choice) else [over.low, over.high]
