"""The networks of one kind of arm on Multi-MNIST: forward, one step, test scores."""

from __future__ import annotations

import torch
from lenet import LeNets, head, initial
from multi_mnist_data import Pictures
from teams import GradientArms, LossArms, Momentum
from torch import Tensor

HEADS = {"left": (50, 10), "right": (50, 10), "picture": (128, 1296)}
MEAN, SD = 0.16, 0.33
Scores = dict[str, Tensor]


class Team:
    """A network for every slot and arm of one kind, with its optimizer."""

    def __init__(
        self,
        arms: LossArms | GradientArms,
        tasks: tuple[str, str],
        seeds: list[int],
        rate: float,
        device: torch.device,
    ) -> None:
        self.arms, self.tasks, self.slots = arms, tasks, len(seeds)
        self.n_arms = len(arms.names)
        self.net = LeNets(self.slots, self.n_arms, device)
        heads = {task: HEADS[task] for task in tasks}
        self.trunk, self.heads = initial(seeds, self.n_arms, heads, device)
        learned = arms.learned if isinstance(arms, LossArms) else []
        parts = [*self.trunk.values(), *(p for h in self.heads.values() for p in h.values()), *learned]
        self.optimizer = Momentum(parts, rate)
        self.last_weights = torch.zeros(self.slots, self.n_arms, len(tasks), device=device)

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        features = self.net((images.float() / 255 - MEAN) / SD, self.trunk)
        return {task: head(features, self.heads[task]) for task in self.tasks}

    def losses(self, images: Tensor, classes: dict[str, Tensor]) -> Tensor:
        """``(S * A, K)``."""
        found = []
        for task, out in self.outputs(images).items():
            out = out.view(self.slots, self.n_arms, *out.shape[1:])
            if task == "picture":
                each = (out - (images.float() / 255).flatten(2)[:, None]).square().mean(-1)
            else:
                target = classes[task][:, None].expand(-1, self.n_arms, -1)
                each = torch.nn.functional.cross_entropy(
                    out.reshape(-1, 10), target.reshape(-1), reduction="none"
                ).view(target.shape)
            found.append(each.mean(-1).flatten())
        return torch.stack(found, dim=1)

    def step(self, images: Tensor, classes: dict[str, Tensor]) -> None:
        losses = self.losses(images, classes)
        by_arm = losses.view(self.slots, self.n_arms, -1)
        if isinstance(self.arms, LossArms):
            decided = self.arms.decide(by_arm.detach())
            weights = decided.weights
            total = (weights * by_arm).sum() + decided.penalty.sum()
            gradients = list(torch.autograd.grad(total, self.optimizer.parameters))
        else:
            weights, gradients = self.combined(losses, self.arms)
        self.optimizer.step(gradients)
        self.last_weights.lerp_(weights.detach(), 0.01)

    def combined(self, losses: Tensor, arms: GradientArms) -> tuple[Tensor, list[Tensor]]:
        """Weights, and the gradients that they make: of the trunk by task, of each head from its task."""
        shared, heads = list(self.trunk.values()), []
        rows = []
        for k, task in enumerate(self.tasks):
            own = list(self.heads[task].values())
            last = k == len(self.tasks) - 1
            found = torch.autograd.grad(losses[:, k].sum(), [*shared, *own], retain_graph=not last)
            rows.append(list(found[: len(shared)]))
            heads.append(found[len(shared) :])
        by_arm = losses.detach().view(self.slots, self.n_arms, -1)
        place = list(self.trunk).index("fc")
        weights = arms.decide(by_arm, rows, [row[place] for row in rows])
        factor = weights.flatten(0, 1)
        of_head = torch.where(arms.weighs_heads[None, :, None], weights, 1.0).flatten(0, 1)
        gradients = [
            sum(g * factor[:, k].view(-1, *[1] * (g.ndim - 1)) for k, g in enumerate(parts))
            for parts in zip(*rows, strict=True)
        ]
        for k, found in enumerate(heads):
            gradients += [g * of_head[:, k].view(-1, *[1] * (g.ndim - 1)) for g in found]
        return weights, gradients

    @torch.no_grad()
    def score(self, test: Pictures, chunk: int) -> Scores:
        """``{task: (S, A)}`` accuracy, or the picture's mean squared error."""
        total = {
            task: torch.zeros(self.slots, self.n_arms, device=self.last_weights.device) for task in self.tasks
        }
        classes: dict[str, Tensor] = {"left": test.left[0], "right": test.right[0]}
        count = test.images.shape[1]
        for start in range(0, count, chunk):
            images = test.images[:, start : start + chunk].expand(self.slots, -1, -1, -1)
            for task, out in self.outputs(images).items():
                out = out.view(self.slots, self.n_arms, *out.shape[1:])
                if task == "picture":
                    error = (out - (images.float() / 255).flatten(2)[:, None]).square().mean(-1)
                    total[task] += error.sum(-1)
                else:
                    total[task] += (out.argmax(-1) == classes[task][start : start + chunk]).float().sum(-1)
        return {task: value / count for task, value in total.items()}
