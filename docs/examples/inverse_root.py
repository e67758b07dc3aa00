"""A weighting of one's own: each task weighs one over the square root of its loss."""

from torch import Tensor

from medmtl.weighting import Weighed, Weighting


class InverseRoot(Weighting):
    """w_i = L_i^(-1/2), the step between equal weights and one over the loss."""

    domain = "positive"

    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """Weights ``(P,)`` from detached losses ``(P,)``; a loss that is not finite gets no weight."""
        usable = losses.isfinite()
        safe = losses.where(usable, 1.0)
        raw = safe.rsqrt() * usable
        pull = raw * safe
        return Weighed(raw=raw, weights=raw, share=pull / pull.sum().clamp_min(1e-20))
