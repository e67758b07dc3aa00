"""Gong et al., "A comparison of loss weighting strategies for multi task learning in deep neural networks",
IEEE Access 2019, tables 1 and 2: Multi-MNIST with a LeNet, and all of medmtl's weightings beside the
paper's.

python benchmarks/papers/multi_mnist.py --minutes 12 --epochs 50 --parallel 6   # results/papers-...json

Table 1: the classes of the left and of the right digit, on all training pictures and on a quarter. Table
2: the class of the left digit and the picture itself, on all, a quarter and a tenth. SGD, momentum .9,
batch 128, learning rate .005 (table 1) or .001 (table 2), as many steps for a part of the pictures as
for all of them. The arms, seeds and parts of one table train side by side; the test pictures are scored
after every 468 steps, which is an epoch of all pictures. The paper trains for 200 of these; here it is
`--epochs`, or fewer when the minutes are over. `--parallel` spreads the arms over processes, all tables at
once; they see the same pictures in the same order, so that the tables do not depend on it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import results
import torch
from multi_mnist_data import Batches, default_folder, make_pictures
from multi_mnist_scores import PAPER_EPOCHS, Course, merged, summary, table_of
from multi_mnist_team import Team
from multi_mnist_workers import Worker, cost, follow, shared_out
from profiled import timed
from teams import GradientArms, LossArms

TABLES: dict[str, dict[str, Any]] = {
    "table 1": {"tasks": ("left", "right"), "parts": (1.0, 0.25), "rate": 0.005},
    "table 2": {"tasks": ("left", "picture"), "parts": (1.0, 0.25, 0.1), "rate": 0.001},
    # Where the digits lie: shifts drawn from 0 to 4 toward the corners, equal weights alone, a few epochs.
    "drawn shifts": {
        "tasks": ("left", "right"),
        "parts": (1.0,),
        "rate": 0.005,
        "drawn": True,
        "epochs": 10,
        "arms": ("single: left", "single: right", "ew"),
        "share": 0.08,
    },
}


def loss_arms(tasks: tuple[str, str]) -> dict[str, Any]:
    criteria = {task: "l2" if task == "picture" else "cross-entropy" for task in tasks}
    return {
        f"single: {tasks[0]}": [1.0, 0.0],
        f"single: {tasks[1]}": [0.0, 1.0],
        "ew": {"type": "ew"},
        "dwa": {"type": "dwa"},
        "uw": {"type": "uw", "criteria": criteria},
        "uw-revised": {"type": "uw-revised"},
        "uw-o": {"type": "uw-o", "criteria": criteria},
        "uw-so, T 10": {"type": "uw-so", "temperature": 10.0},
        "uw-so, T 50": {"type": "uw-so", "temperature": 50.0},
        "uw-so, 1.6 tasks": {"type": "uw-so", "effective_tasks": 1.6},
        "balanced": {"type": "balanced"},
        "rlw": {"type": "rlw"},
        "gls": {"type": "gls"},
        "imtl-l": {"type": "imtl-l"},
        # The paper's rate for all is not every method's: the same with another.
        "ew, 3 x rate": {"type": "ew", "times": 3},
        "uw-o, 0.2 x rate": {"type": "uw-o", "criteria": criteria, "times": 0.2},
        "uw-so, 1.6 tasks, 3 x rate": {"type": "uw-so", "effective_tasks": 1.6, "times": 3},
        "balanced, 3 x rate": {"type": "balanced", "times": 3},
    }


GRADIENT_ARMS: dict[str, Any] = {
    name: {"type": name}
    for name in ("gradnorm", "mgda", "pcgrad", "cagrad", "imtl-g", "aligned-mtl", "nash-mtl")
}


def arms_of(table: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arms of a table that see losses, and those that see gradients."""
    plan = TABLES[table]
    seen = {name: arm for name, arm in loss_arms(plan["tasks"]).items() if name in plan.get("arms", (name,))}
    return seen, {} if "arms" in plan else GRADIENT_ARMS


def epochs_of(table: str, arguments: argparse.Namespace) -> int:
    return 1 if arguments.quick else min(arguments.epochs, TABLES[table].get("epochs", arguments.epochs))


def train(
    table: str, arguments: argparse.Namespace, clock: results.Clock, scored: Callable[[Course], None]
) -> None:
    """Trains the arms of one table, or those chosen, until the clock or the epochs end."""
    plan, device = TABLES[table], torch.device(arguments.device)
    tasks, parts, drawn = plan["tasks"], plan["parts"], bool(plan.get("drawn"))
    seeds = list(range(arguments.seeds))
    limit, few = (1500, 50) if arguments.quick else (None, None)
    pictures = make_pictures(arguments.data, "train", seeds, limit, drawn=drawn, device=device)
    test = make_pictures(arguments.data, "test", [10_000], few, drawn=drawn, device=device)
    batches = Batches(pictures, parts, 8 if arguments.quick else 128)
    slots = seeds * len(parts)
    by_loss, by_gradient = (
        {name: arm for name, arm in arms.items() if name in (arguments.arms or (name,))}
        for arms in arms_of(table)
    )
    ways: list[LossArms | GradientArms] = []
    if by_loss:
        ways.append(LossArms(by_loss, tasks, len(slots), device))
    if by_gradient:
        ways.append(GradientArms(by_gradient, tasks, len(slots), device))
    teams = [Team(arms, tasks, slots, plan["rate"], device) for arms in ways]
    course = Course(tasks, [name for team in teams for name in team.arms.names])
    per_epoch = batches.sizes[0] // batches.batch
    step, parent = 0, os.getppid()

    def one_step() -> None:
        images, classes, began = batches.draw()
        for team in teams:
            if step and began is not None and isinstance(team.arms, LossArms):
                team.arms.end_epoch(began)
            team.step(images, classes)

    if arguments.profile:
        print(table, timed(one_step, arguments.device), flush=True)
        return
    while step < epochs_of(table, arguments) * per_epoch and not (clock.over and course.epochs):
        one_step()
        step += 1
        if step % per_epoch == 0 or (arguments.quick and step == 2):
            scores = [team.score(test, 100 if arguments.quick else 250) for team in teams]
            course.add(
                step / per_epoch,
                {task: torch.cat([s[task] for s in scores], 1) for task in tasks},
                torch.cat([team.last_weights for team in teams], 1),
            )
            scored(course)
            print(f"{table}, epoch {step / per_epoch:.1f}, {clock.seconds:.0f} s", flush=True)
            if arguments.quick or (arguments.course and os.getppid() != parent):
                break


def study(table: str, arguments: argparse.Namespace, clock: results.Clock, out: results.Results) -> None:
    """One table in this process, written after each scoring."""

    def scored(course: Course) -> None:
        out.update(**{table: {**summary(course, TABLES[table]["parts"]), "seconds": clock.seconds}})

    train(table, arguments, clock, scored)
    if table in out.found:
        print(table_of(out.found[table]), flush=True)


def in_parallel(arguments: argparse.Namespace, clock: results.Clock, out: results.Results) -> None:
    """All tables at once, their arms over the workers."""
    groups, arms = [], {}
    for table in arguments.tables:
        kinds = [[n for n in kind if n in (arguments.arms or (n,))] for kind in arms_of(table)]
        arms[table] = [*kinds[0], *kinds[1]]
        groups += [(table, {n: cost(n, bool(i)) for n in kind}) for i, kind in enumerate(kinds) if kind]
    arms = {table: names for table, names in arms.items() if names}
    if arguments.parallel < len(groups):  # too few to have a network of either kind in a process of its own
        groups = [
            (table, {n: ms for t, costs in groups if t == table for n, ms in costs.items()}) for table in arms
        ]
    options = ["--device", arguments.device, "--data", str(arguments.data), "--seeds", str(arguments.seeds)]
    options += ["--minutes", str(arguments.minutes), "--epochs", str(arguments.epochs)]
    options += ["--quick"] * arguments.quick

    with tempfile.TemporaryDirectory() as folder:
        workers = [
            Worker.start(number, table, names, options, Path(folder), arguments.gpus)
            for number, (table, names) in enumerate(shared_out(groups, arguments.parallel))
        ]

        def merge() -> None:
            for table in arms:
                mine = [worker for worker in workers if worker.table == table]
                known = [c for worker in mine if (c := worker.read(TABLES[table]["tasks"])) is not None]
                if known:
                    found = summary(merged(known, arms[table]), TABLES[table]["parts"])
                    found["seconds"] = clock.seconds
                    reached = {name: c.epochs[-1] for c in known for name in c.names}
                    if len(set(reached.values())) > 1:
                        found["epochs of each arm"] = {name: reached[name] for name in found["arms"]}
                    found["left out"] = {
                        arm: worker.failure() or "no epoch ended"
                        for worker in mine
                        for arm in worker.arms
                        if arm not in reached
                    }
                    out.update(**{table: found})
                    print(f"{table}, epoch {found['epochs']:.1f} of all, {clock.seconds:.0f} s", flush=True)

        follow(workers, arguments.minutes, merge)
    for table in arms:
        print(table_of(out.found[table]) if table in out.found else f"{table}: no arm was scored", flush=True)


def main() -> None:
    options = results.parser(__doc__ or "", minutes=5)
    options.add_argument("--data", type=Path, default=default_folder(), help="folder of MNIST's idx files")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--epochs", type=int, default=PAPER_EPOCHS, help="of all pictures, at most")
    options.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES), metavar="TABLE")
    options.add_argument("--arms", nargs="+", metavar="ARM", help="these alone")
    options.add_argument("--parallel", type=int, default=1, metavar="N", help="processes that share the arms")
    options.add_argument(
        "--gpus", nargs="+", default=[], metavar="N", help="numbers of the GPUs that share them"
    )
    options.add_argument("--profile", action="store_true", help="time a few steps of each table, no more")
    options.add_argument("--course", type=Path, help=argparse.SUPPRESS)  # where a worker writes its scores
    arguments = options.parse_args()
    if arguments.quick:
        arguments.seeds = 1
        torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")  # TF32 products
    whole = results.Clock(arguments.minutes)
    if arguments.course:
        train(arguments.tables[0], arguments, whole, lambda course: course.write(arguments.course))
        return
    if arguments.profile:
        for table in arguments.tables:
            train(table, arguments, whole, lambda course: None)
        return
    out = results.Results("papers-multi-mnist", arguments)
    settings = {name: getattr(arguments, name) for name in ("seeds", "minutes", "epochs", "parallel", "gpus")}
    out.update(settings={**settings, "batch": 128, "products": "TF32"})
    if arguments.parallel > 1:
        in_parallel(arguments, whole, out)
    else:
        shares = {table: TABLES[table].get("share", 1.0) for table in arguments.tables}
        for table in list(shares):
            left = (whole.limit - whole.seconds) / 60
            study(table, arguments, results.Clock(left * shares[table] / sum(shares.values())), out)
            del shares[table]
    print(out.path)


if __name__ == "__main__":
    main()
