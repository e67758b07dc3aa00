"""GradNorm's toy network, many side by side: a ReLU trunk of four layers of 100 and a linear layer per task.

A network per (slot, arm); the arms of a slot see the same samples. Backward is written by hand where each
task's gradient is wanted, so that one pass serves all tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

WIDTH, LAYERS, OUTPUTS = 100, 4, 100


class MLPs:
    """S * A networks with K tasks of 100 outputs.

    Attributes:
        weights: ``(M, inputs, outputs)`` of the four trunk layers and of all heads together.
        biases: ``(M, 1, outputs)`` of the same.
    """

    def __init__(
        self, inputs: int, tasks: int, seeds: Sequence[int], arms: int, device: torch.device
    ) -> None:
        self.tasks, self.arms = tasks, arms
        widths = [inputs, *[WIDTH] * LAYERS, tasks * OUTPUTS]
        drawn = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]
        self.weights, self.biases = [], []
        for layer in range(LAYERS + 1):
            a, b = widths[layer], widths[layer + 1]
            gain = math.sqrt(2 / a) if layer < LAYERS else 0.1 / math.sqrt(a)
            values = torch.stack([gain * torch.randn(a, b, generator=g) for g in drawn]).to(device)
            values = values[:, None].expand(-1, arms, -1, -1).flatten(0, 1)
            self.weights.append(values.clone().requires_grad_())
            self.biases.append(torch.zeros(len(values), 1, b, device=device, requires_grad=True))

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.biases]

    def hidden(self, x: Tensor) -> list[Tensor]:
        """Activations before each layer, ``(M, B, width)``, from samples ``(S, B, inputs)``."""
        found = [x[:, None].expand(-1, self.arms, -1, -1).flatten(0, 1)]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            found.append(torch.relu(torch.baddbmm(bias, found[-1], weight)))
        return found

    def errors(self, hidden: Tensor, y: Tensor) -> Tensor:
        """``(S, A, B, K, 100)`` predictions minus ``(S, B, K, 100)`` targets."""
        out = torch.baddbmm(self.biases[-1], hidden, self.weights[-1])
        return out.view(len(y), self.arms, y.shape[1], self.tasks, OUTPUTS) - y[:, None]

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean squared errors ``(S, A, K)``."""
        return self.errors(self.hidden(x)[-1], y).square().mean((2, 4))

    @torch.no_grad()
    def by_task(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[list[Tensor]], list[Tensor]]:
        """Losses ``(S, A, K)``, every task's gradients of the trunk, and the heads' gradients.

        Returns:
            The second by task: ``(M, ...)`` of the four matrices, then of their biases. The third: of the
            heads' matrix ``(M, 100, K, 100)`` and of their bias ``(M, 1, K, 100)``, of the plain sum.
        """
        hidden = self.hidden(x)
        errors = self.errors(hidden[-1], y)
        runs, batch = len(hidden[-1]), x.shape[1]
        out = errors.view(runs, batch, self.tasks, OUTPUTS) * (2 / (batch * OUTPUTS))
        flat = out.reshape(runs, batch, -1)
        heads = [
            (hidden[-1].mT @ flat).view(runs, WIDTH, self.tasks, OUTPUTS),
            flat.sum(1, keepdim=True).view(runs, 1, self.tasks, OUTPUTS),
        ]
        matrix = self.weights[-1].view(runs, WIDTH, self.tasks, OUTPUTS)
        delta = torch.einsum("mbko,mhko->mkbh", out, matrix)
        matrices, biases = [], []
        for layer in reversed(range(LAYERS)):
            delta = delta * (hidden[layer + 1] > 0)[:, None]
            matrices.append(torch.einsum("mbi,mkbo->mkio", hidden[layer], delta))
            biases.append(delta.sum(2, keepdim=True))
            if layer:
                delta = delta @ self.weights[layer].mT[:, None]
        parts = [*reversed(matrices), *reversed(biases)]
        rows = [[part[:, k] for part in parts] for k in range(self.tasks)]
        return errors.square().mean((2, 4)), rows, heads
