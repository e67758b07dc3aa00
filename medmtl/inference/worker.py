"""A model that is loaded once and predicts one study after the other."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medmtl.inference.context import Context
from medmtl.inference.device import choose_device
from medmtl.inference.find import rule_for
from medmtl.inference.find.names import Pseudonyms
from medmtl.inference.ladder import Ladder
from medmtl.inference.layout import laid_out
from medmtl.inference.model import Model, load_model
from medmtl.inference.options import Options
from medmtl.types import ConfigError


@dataclass(frozen=True)
class Job:
    """What a worker in another process is told, once: plain data only.

    Attributes:
        model: the model's folder.
        digest: of the model, so that no worker runs another one.
        options: what to do with every study.
        output: the PREDICTIONS folder, which all workers see under this path.
        run: id of the run, which every finished folder carries.
    """

    model: str
    digest: str
    options: Options
    output: str
    run: str


class Worker:
    """Everything that studies share: the model on its device, and whose turn it is there.

    Args:
        model: the model; it is moved to the device.
        options: what to do with every study.
        output: the PREDICTIONS folder.
        run: id of the run.
        digest: of the model, where it is known.
    """

    def __init__(self, model: Model, options: Options, output: Path, run: str, *, digest: str = "") -> None:
        self._digest = digest
        self.model, self.options, self.output, self.run = model, options, output, run
        self.tasks = model.task_names(options.tasks or None)
        self.outputs = describe_outputs(model, self.tasks)
        self.rule = rule_for(model, options.select)
        self.names = Pseudonyms(options.key)
        self.device = threading.BoundedSemaphore(1)
        self.stop = threading.Event()
        context = laid_out(model.context(choose_device(options.device), mirror=options.mirror))
        self.ladder = Ladder(context, lambda: _copied_to_cpu(context))

    @property
    def digest(self) -> str:
        """Of the model."""
        self._digest = self._digest or self.model.digest()
        return self._digest

    @classmethod
    def of(cls, job: Job) -> Worker:
        """A worker in its own process.

        Raises:
            ConfigError: the model cannot be loaded, or is another one by now.
        """
        model = load_model(job.model)
        digest = model.digest()
        if digest != job.digest:
            raise ConfigError(f"{job.model}: the model changed while the run went on; start again with it")
        return cls(model, job.options, Path(job.output), job.run, digest=digest)


def describe_outputs(model: Model, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """`outputs.yaml`: how to read the folder. The first segmentation is ``segmentation.nii.gz``."""
    outputs: dict[str, dict[str, Any]] = {}
    first = next((name for name in names if model.tasks[name].kind == "segmentation"), None)
    for name in names:
        entry = dict(model.tasks[name].describe())
        if model.tasks[name].dense:
            taken = f"{name}_task" if name == "segmentation" else name
            entry["file"] = "segmentation.nii.gz" if name == first else f"{taken}.nii.gz"
        outputs[name] = entry
    return outputs


def _copied_to_cpu(context: Context) -> Context:
    """The same networks in the machine's memory; the device has no room for a copy."""
    home = context.device
    context.network.to("cpu")
    network = copy.deepcopy(context.network)
    context.network.to(home)
    others = tuple(_copied_to_cpu(other) for other in context.others)
    return Context(network, context.tasks, context.preparation, torch.device("cpu"), context.mirror, others)
