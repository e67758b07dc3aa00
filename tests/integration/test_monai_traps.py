"""Folders of which bare MONAI makes a wrong volume without a word, and medmtl the right one, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor, PydicomReader
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged, Orientationd, Spacingd

from medmtl.data.dicom.monai_reader import MedmtlReader
from medmtl.types import CaseError, ConfigError
from tests.helpers import dicom_writer as writer
from tests.helpers.dicom_faults import FAULTS
from tests.helpers.dicom_writer import write

# MONAI says so whenever it makes a list of its readers
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def monai(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and RAS affine, as MONAI's own reader has them."""
    reader = PydicomReader(swap_ij=True)
    array, meta = reader.get_data(reader.read(path))
    return np.asarray(array), LPS @ meta["affine"] if meta["space"] == "LPS" else meta["affine"]


def ours(path: Path, **options: Any) -> MetaTensor:
    image = LoadImage(reader=MedmtlReader(**options))(path)
    assert isinstance(image, MetaTensor)
    return image


def is_the_ramp(array: Any, affine: Any, truth: np.ndarray) -> bool:
    """Whether every voxel ``(X, Y, Z)`` holds the ramp of the place that the affine names, phases aside."""
    index = np.stack(np.meshgrid(*map(np.arange, array.shape[:3]), indexing="ij"), axis=-1)
    affine = LPS @ np.asarray(affine)
    place = index @ affine[:3, :3].T + affine[:3, 3]
    apart = np.asarray(array) - writer.ramp_at(place, truth, 0)
    return bool(np.abs(apart - writer.PHASE_STEP * np.rint(apart / writer.PHASE_STEP)).max() < 0.51)


def test_a_cine_is_stacked_into_one_pile_by_monai_and_not_by_medmtl(tmp_path: Path) -> None:
    export = writer.ge_cine()
    write(export, tmp_path)
    pile, pile_affine = monai(tmp_path)
    assert pile.shape == (writer.COLUMNS, writer.ROWS, writer.SLICES * writer.PHASES)
    assert np.linalg.norm(pile_affine[:3, 2]) < 2.0, "slices of 8 mm that MONAI has 1.7 mm apart"

    cine = ours(tmp_path)
    assert cine.shape == (writer.COLUMNS, writer.ROWS, writer.SLICES, writer.PHASES)
    for phase in range(writer.PHASES):
        frame = cine[..., phase].numpy() - phase * writer.PHASE_STEP
        assert is_the_ramp(frame, cine.affine, export.affine)
    np.testing.assert_allclose(np.diff(cine.meta["time_ms"]), 46.0)


def test_a_missing_slice_turns_8_into_10_mm_in_monai_and_is_refused_by_medmtl(tmp_path: Path) -> None:
    affine = writer.grid(6)
    export = writer.Export(writer.frames_of(affine, slices=6, phases=1), affine, timing="none")
    FAULTS["missing_slice"].plant(export)
    write(export, tmp_path)
    array, wrong = monai(tmp_path)
    assert np.linalg.norm(wrong[:3, 2]) == pytest.approx(10.0)
    assert not is_the_ramp(array, wrong, affine)

    with pytest.raises(CaseError, match="GAP"):
        ours(tmp_path)


def test_two_series_in_a_folder_are_interleaved_by_monai_and_kept_apart_by_medmtl(tmp_path: Path) -> None:
    one, other = writer.mr_volume(), writer.mr_volume()
    other.name = "another"
    other.tags["SeriesNumber"] = 40
    for frame in other.frames:
        frame.position = frame.position + 0.5 * other.affine[:3, 2]
        writer.redraw(frame, other.affine)
    write(one, tmp_path, "a{:02d}".format)
    write(other, tmp_path, "b{:02d}".format)
    array, _ = monai(tmp_path)
    assert array.shape[2] == 2 * writer.SLICES

    with pytest.raises(ConfigError, match="holds 2 volumes"):
        ours(tmp_path)
    names = []
    for wanted in (0, 1):
        volume = ours(tmp_path, volume=lambda plans, wanted=wanted: plans[wanted])
        assert volume.shape[2] == writer.SLICES
        assert is_the_ramp(volume, volume.affine, one.affine)
        names.append(volume.meta["volume"])
        assert torch.equal(ours(tmp_path, volume=names[-1]), volume)
    with pytest.raises(ConfigError, match="holds no volume 's99'"):
        ours(tmp_path, volume="s99")


def test_shuffled_instance_numbers_shuffle_monais_slices_and_not_medmtls(tmp_path: Path) -> None:
    export = writer.mr_volume()
    for frame, number in zip(export.frames, (3, 1, 5, 2, 4), strict=True):
        frame.tags["InstanceNumber"] = number
    write(export, tmp_path)
    assert not is_the_ramp(*monai(tmp_path), export.affine)
    volume = ours(tmp_path)
    assert is_the_ramp(volume, volume.affine, export.affine)
    assert volume.meta["findings"] == ""


def test_a_study_that_medmtl_refuses_is_not_handed_to_monais_other_readers(tmp_path: Path) -> None:
    export = writer.mr_volume()
    FAULTS["mixed_orientation"].plant(export)
    FAULTS["no_position_anywhere"].plant(export)
    write(export, tmp_path)
    with pytest.raises(CaseError, match="MISSING_GEOMETRY"):
        ours(tmp_path)


def test_channels_are_time_and_metadata_can_be_collated(tmp_path: Path) -> None:
    write(writer.ge_cine(), tmp_path)
    load = Compose([LoadImaged("image", reader=MedmtlReader), EnsureChannelFirstd("image")])
    image = load({"image": tmp_path})["image"]
    assert image.shape == (writer.PHASES, writer.COLUMNS, writer.ROWS, writer.SLICES)
    assert image.meta["space"] == "RAS"
    assert not [key for key, value in image.meta.items() if value is None]


def test_the_reader_offers_itself_for_folders_and_dicom_names(tmp_path: Path) -> None:
    reader = MedmtlReader()
    assert reader.verify_suffix(tmp_path)
    assert reader.verify_suffix([tmp_path / "a.dcm", tmp_path / "b.IMA"])
    assert not reader.verify_suffix(tmp_path / "mask.nii.gz")


def smooth_volume() -> writer.Export:
    """An oblique volume of waves that are long against its voxels."""
    export = writer.mr_volume()
    for frame in export.frames:
        points = writer.plane_points(frame)
        frame.values = np.rint(4000 + 3000 * np.cos(points @ (0.07, 0.05, 0.04)))
    return export


def test_orientation_and_spacing_on_the_reader_equal_a_direct_resampling_by_simpleitk(tmp_path: Path) -> None:
    export = smooth_volume()
    write(export, tmp_path)
    chain = Compose(
        [
            LoadImaged("image", reader=MedmtlReader),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd("image", pixdim=(1.9, 2.1, 5.0), mode="bilinear", padding_mode="border"),
        ]
    )
    image = chain({"image": tmp_path})["image"]

    direct = sitk.GetImageFromArray(np.stack([frame.values for frame in export.frames]).astype(np.float64))
    sizes = np.linalg.norm(export.affine[:3, :3], axis=0)
    direct.SetSpacing(sizes.tolist())
    direct.SetDirection((export.affine[:3, :3] / sizes).ravel().tolist())
    direct.SetOrigin(export.affine[:3, 3].tolist())
    grid = LPS @ image.affine.numpy()
    grid_sizes = np.linalg.norm(grid[:3, :3], axis=0)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in image.shape[1:]])
    resampler.SetOutputSpacing(grid_sizes.tolist())
    resampler.SetOutputDirection((grid[:3, :3] / grid_sizes).ravel().tolist())
    resampler.SetOutputOrigin(grid[:3, 3].tolist())
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(np.nan)
    expected = sitk.GetArrayFromImage(resampler.Execute(direct)).T

    inside = np.isfinite(expected)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(image[0].numpy()[inside], expected[inside], atol=0.01)
