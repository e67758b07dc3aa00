"""Files of every volume format: the same voxels at the same places, or one sentence why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medmtl.data.formats.volumes import ENDINGS, files_below, is_volume_name, read_any, stem
from medmtl.types import CaseError
from tests.helpers.layouts import OBLIQUE, noise, save


def itk_image(array: Any, *, seed: int = 0) -> sitk.Image:
    """``(x, y, z)`` voxels with directions that are those of no axis."""
    image = sitk.GetImageFromArray(np.asarray(array).transpose())
    image.SetDirection(Rotation.random(rng=seed).as_matrix().ravel().tolist())
    image.SetSpacing([1.5, 0.7, 8.25])
    image.SetOrigin([-20.5, 31.25, 400.0])
    return image


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(CaseError) as caught:
        read_any(path)
    assert str(path.parent) not in str(caught.value)
    return caught.value.code, str(caught.value)


# ---- files that cannot be used


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_file_says_so(tmp_path: Path, ending: str) -> None:
    code, message = refusal(tmp_path / f"a{ending}")
    assert (code, message) == ("NO_USABLE_SERIES", f"a{ending}: there is no such file")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 400, b"NRRD0004\nsizes: x\n\n", b"NDims = 3\nDimSize = 4 4\n"]
)
def test_garbage_is_undecodable(tmp_path: Path, ending: str, content: bytes) -> None:
    (tmp_path / f"a{ending}").write_bytes(content)
    assert refusal(tmp_path / f"a{ending}")[0] in ("UNDECODABLE", "TRUNCATED")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_that_ends_early_is_truncated(tmp_path: Path, ending: str, compressed: bool) -> None:
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(itk_image(noise(0)), str(path), compressed)
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(path)[0] == "TRUNCATED"


@pytest.mark.parametrize(("ending", "data"), [(".nhdr", "a.raw"), (".mhd", "a.raw")])
def test_a_header_whose_data_file_is_gone_is_refused(tmp_path: Path, ending: str, data: str) -> None:
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(itk_image(noise(0)), str(path), False)
    (tmp_path / data).unlink()
    assert refusal(path)[0] in ("TRUNCATED", "UNDECODABLE")


def test_a_small_file_that_claims_gigabytes_is_refused_at_once(tmp_path: Path) -> None:
    header = (
        b"NRRD0004\ntype: double\ndimension: 3\nsizes: 4096 4096 4096\nencoding: gzip\nendian: little\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header + b"\x00" * 100)
    code, message = refusal(tmp_path / "a.nrrd")
    assert code == "TRUNCATED"
    assert "claims 68719476736 values in" in message


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_colours_and_vectors_are_no_image(tmp_path: Path, ending: str) -> None:
    array = np.zeros((4, 5, 6, 3), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / f"a{ending}"))
    code, message = refusal(tmp_path / f"a{ending}")
    assert code == "NOT_AN_IMAGE"
    assert "3 numbers per voxel" in message


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1)])
def test_a_single_slice_is_refused(tmp_path: Path, ending: str, shape: tuple[int, ...]) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.ones(shape[::-1], np.int16)), str(tmp_path / f"a{ending}"))
    assert refusal(tmp_path / f"a{ending}")[0] == "SINGLE_SLICE"


def test_another_ending_names_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert refusal(tmp_path / "a.png") == (
        "UNDECODABLE",
        f"a.png: is of no known format; known endings are {', '.join(ENDINGS)}",
    )


# ---- geometry and voxels


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_every_format_puts_the_same_voxels_at_the_same_places(
    tmp_path: Path, ending: str, dtype: Any
) -> None:
    array = noise(3).clip(0, 250).astype(dtype)
    image = itk_image(array)
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
    volume = read_any(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.geometry.oriented
    for index in ((0, 0, 0), (11, 9, 3), (5, 2, 1)):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        place = volume.geometry.affine @ [*index, 1]
        np.testing.assert_allclose(place[:3], [-x, -y, z], atol=1e-4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), flip=st.booleans())
def test_nrrd_and_nifti_of_any_orientation_agree(tmp_path: Path, seed: int, flip: bool) -> None:
    image = itk_image(noise(0, (3, 4, 2)), seed=seed)
    if flip:
        image.SetDirection(
            (np.array(image.GetDirection()).reshape(3, 3) @ np.diag([1, 1, -1])).ravel().tolist()
        )
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    affines = [read_any(tmp_path / f"a.{ending}").geometry.affine for ending in ("nrrd", "nii")]
    np.testing.assert_allclose(affines[0], affines[1], atol=1e-3)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_the_fourth_axis_is_time(tmp_path: Path, ending: str) -> None:
    array = noise(0, (4, 5, 3, 6))
    frames = [itk_image(array[..., t]) for t in range(6)]
    image = sitk.JoinSeries(frames)
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
    sitk.WriteImage(frames[0], str(tmp_path / "first.nrrd"))
    volume = read_any(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(volume.array, array)
    assert (volume.geometry.shape, volume.geometry.frames) == ((4, 5, 3), 6)
    expected = read_any(tmp_path / "first.nrrd").geometry.affine
    np.testing.assert_allclose(volume.geometry.affine, expected, atol=1e-4)


@pytest.mark.parametrize("first", [True, False])
def test_the_list_of_a_nrrd_becomes_frames(tmp_path: Path, first: bool) -> None:
    array = noise(0, (4, 5, 3, 2))
    axes = ["(-1,0,0)", "(0,2,0)", "(0,0,3)"]
    kinds = ["domain"] * 3
    sizes = ["4", "5", "3"]
    at = 0 if first else 3
    for part, value in ((axes, "none"), (kinds, "list"), (sizes, "2")):
        part.insert(at, value)
    header = (
        f"NRRD0004\ntype: short\ndimension: 4\nspace: right-anterior-superior\nsizes: {' '.join(sizes)}\n"
        f"space directions: {' '.join(axes)}\nspace origin: (10,20,30)\nkinds: {' '.join(kinds)}\n"
        "encoding: raw\nendian: little\n\n"
    )
    stored = np.moveaxis(array, 3, 0) if first else array
    (tmp_path / "a.nrrd").write_bytes(header.encode() + stored.tobytes(order="F"))
    volume = read_any(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(
        volume.geometry.affine, [[-1, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]]
    )


def test_a_nrrd_that_states_no_space_is_not_oriented(tmp_path: Path) -> None:
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 5 3\nspacings: 1 2 3\n"
    header += b"encoding: raw\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(header + noise(0, (4, 5, 3)).tobytes(order="F"))
    geometry = read_any(tmp_path / "a.nrrd").geometry
    assert not geometry.oriented
    assert geometry.spacing_mm == (1, 2, 3)


def test_an_oblique_nifti_keeps_its_affine(tmp_path: Path) -> None:
    np.testing.assert_allclose(
        read_any(save(tmp_path / "a.nii.gz", noise(0))).geometry.affine, OBLIQUE, atol=1e-5
    )


# ---- names


def test_names_of_volumes_are_known_by_their_endings() -> None:
    names = ["a.nii.gz", "b.NII", "c.nrrd", "._a.nii.gz", ".hidden.mha", "d.png", "e.nii.gz.txt", "f.mhd"]
    assert [is_volume_name(name) for name in names] == [True, True, True, False, False, False, False, True]
    assert [stem(name) for name in ("a.b.nii.gz", "c.nrrd", "d.txt")] == ["a.b", "c", "d.txt"]


def test_files_are_found_to_a_depth_and_no_link_leads_back(tmp_path: Path) -> None:
    for name in ("a.txt", "x/b.txt", "x/y/c.txt", ".git/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "x" / "loop").symlink_to(tmp_path)
    (tmp_path.parent / f"{tmp_path.name}-elsewhere").mkdir()
    (tmp_path.parent / f"{tmp_path.name}-elsewhere" / "e.txt").write_text("")
    (tmp_path / "z").symlink_to(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    assert [file.name for file in files_below(tmp_path, 1)] == ["a.txt", "b.txt", "e.txt"]
    assert [file.name for file in files_below(tmp_path, 9)] == ["a.txt", "b.txt", "e.txt", "c.txt"]
    assert list(files_below(tmp_path / "gone", 3)) == []
