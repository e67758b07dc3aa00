"""Pictures of a study for its page."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medmtl.inference.preview import (
    JPEG_BYTES,
    PIXELS,
    Preview,
    make_preview,
    read_preview,
    save_preview,
)
from medmtl.types import OutputError

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])


def disc(shape: tuple[int, int, int, int], radius: float) -> np.ndarray:
    """``(T, X, Y, Z)``: a disc in the inner slices of every frame, its radius shrinking by a fifth."""
    frames, width, height, depth = shape
    x, y = np.meshgrid(np.arange(width), np.arange(height), indexing="ij")
    distance = np.hypot(x - width * 0.6, y - height * 0.4)
    mask = np.zeros(shape, np.uint8)
    for t in range(frames):
        mask[t, :, :, 1 : depth - 1] = np.where(distance < radius * (1 - 0.2 * t / frames), 2, 0)[..., None]
    return mask


def tiles(sheet: bytes, preview: Preview) -> np.ndarray:
    """``(slices, frames, rows, columns)`` without padding."""
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))
    (down, across), (height, width) = preview.about["tile"], preview.about["inner"]
    rows, columns = len(preview.about["slices"]), len(preview.about["frames"])
    return pixels.reshape(rows, down, columns, across).swapaxes(1, 2)[:, :, :height, :width]


def test_masks_come_back_voxel_by_voxel_and_images_nearly() -> None:
    mask = disc((4, 40, 36, 5), 9.0)
    image = np.where(np.moveaxis(mask, 0, -1) == 2, 900, 100).astype(np.int16)
    preview = make_preview(image, {"anatomy": mask}, AFFINE, 0.018)
    labels = tiles(preview.masks["anatomy"], preview) / preview.about["grey"]["anatomy"]
    grey = tiles(preview.image, preview)
    assert np.array_equal(np.unique(labels), [0, 2])
    for s, z in enumerate(preview.about["slices"]):
        for f, t in enumerate(preview.about["frames"]):
            assert (labels[s, f] == 2).sum() == (mask[t, :, :, z] == 2).sum(), "the whole structure is shown"
            inside = labels[s, f] == 2
            if inside.any():
                assert grey[s, f][inside].mean() > 235 > 40 > grey[s, f][~inside].mean()


def test_rows_run_down_from_anterior_and_columns_from_the_patients_right() -> None:
    mask = np.zeros((1, 12, 10, 3), np.uint8)
    mask[0, 2, 1] = 1  # voxel axes run to the left and to the back
    preview = make_preview(np.zeros((12, 10, 3, 1)), {"a": mask}, np.diag([-1.0, -1.0, 5.0, 1.0]), 0.005)
    everywhere = make_preview(np.zeros((12, 10, 3, 1)), {}, np.diag([-1.0, -1.0, 5.0, 1.0]), 0.005)
    assert (preview.about["top"], preview.about["left"]) == ("A", "R")
    assert everywhere.about["inner"] == [10, 12]
    rows, columns = np.nonzero(tiles(preview.masks["a"], preview)[0, 0])
    assert (rows.tolist(), columns.tolist()) == ([1], [1]), "a margin of one voxel around it"


def test_curves_are_volumes_of_every_frame() -> None:
    mask = disc((5, 30, 30, 6), 8.0)
    preview = make_preview(np.zeros((30, 30, 6, 5)), {"anatomy": mask}, AFFINE, 0.018)
    expected = [(mask[t] == 2).sum() * 0.018 for t in range(5)]
    assert preview.about["curves"]["anatomy"] == {"2": pytest.approx(expected, abs=6e-4)}


@pytest.mark.parametrize("shape", [(400, 400, 90, 1), (200, 200, 16, 60)])
def test_a_large_study_stays_small_and_keeps_the_frames_that_matter(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 1000, shape, dtype=np.int16)
    keep = (0, 37) if shape[3] > 1 else (0,)
    preview = make_preview(image, {}, AFFINE, 0.018, frames=keep)
    down, across = preview.about["tile"]
    assert down * across * len(preview.about["slices"]) * len(preview.about["frames"]) <= 1.15 * PIXELS
    assert set(keep) <= set(preview.about["frames"])
    assert len(preview.image) < 2 * JPEG_BYTES, "pure noise is the worst case"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    mask = disc((2, 20, 20, 4), 5.0)
    preview = make_preview(np.zeros((20, 20, 4, 2)), {"anatomy": mask}, AFFINE, 0.018, time_ms=[0.0, 40.0])
    save_preview(tmp_path / "preview.npz", preview)
    assert read_preview(tmp_path / "preview.npz") == preview


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "preview.npz").write_bytes(content)
    with pytest.raises(OutputError, match=r"preview\.npz: damaged"):
        read_preview(tmp_path / "preview.npz")
