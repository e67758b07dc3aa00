from __future__ import annotations

import numpy as np
import pytest

from medmtl.data.dicom.heartbeat import propose_ed_es
from medmtl.data.phantom import make_case


def ball(radii: np.ndarray, *, noise: float = 1.0) -> np.ndarray:
    """A bright cylinder of changing radius in grey surroundings, ``(40, 40, 6, T)``."""
    x, y = np.mgrid[:40, :40] - 19.5
    inside = np.hypot(x, y)[:, :, None, None] < radii
    shape = (40, 40, 6, len(radii))
    return 30.0 + 100.0 * np.broadcast_to(inside, shape) + np.random.default_rng(1).normal(0, noise, shape)


@pytest.mark.parametrize("turn", [0, 7, 19])
def test_the_fullest_and_the_emptiest_frame_are_proposed_wherever_the_cine_begins(turn: int) -> None:
    radii = 10.0 + 3.0 * np.cos(2 * np.pi * np.arange(20) / 20)
    told = propose_ed_es(ball(np.roll(radii, turn)))
    assert told is not None
    assert told.sure == "likely"
    assert abs((told.ed - turn + 10) % 20 - 10) <= 2
    assert abs((told.es - turn) % 20 - 10) <= 2


@pytest.mark.parametrize("seed", range(6))
def test_the_phantoms_heartbeat_is_told_to_within_two_frames_or_as_a_guess(seed: int) -> None:
    case = make_case(seed, frames=16, shape=(64, 64, 10), spacing_mm=(3.0, 3.0, 8.0))
    told = propose_ed_es(np.moveaxis(case.images["cine"], 0, -1))
    assert told is not None
    if told.sure == "likely":
        assert abs((told.ed - case.cycle.frame_ed + 8) % 16 - 8) <= 2
        assert abs((told.es - case.cycle.frame_es + 8) % 16 - 8) <= 2
    else:
        assert seed in (2, 4)


@pytest.mark.parametrize("frames", [1, 4])
def test_a_few_frames_are_no_heartbeat(frames: int) -> None:
    assert propose_ed_es(ball(np.linspace(8.0, 12.0, frames))) is None


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_what_does_not_move_has_no_heartbeat(noise: float) -> None:
    assert propose_ed_es(ball(np.full(20, 10.0), noise=noise)) is None


def test_a_volume_is_no_cine() -> None:
    with pytest.raises(ValueError, match="3 dimensions"):
        propose_ed_es(np.zeros((4, 4, 4)))
