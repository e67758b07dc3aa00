"""Segmentations: those that cannot be placed first, then every kind, way of writing and order."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from medmtl.data.dicom.labelgrid import LabelGrid
from medmtl.data.dicom.seg import Segmentation, read_segmentation
from medmtl.data.dicom.segmasks import PlacedSegmentation, place
from medmtl.data.dicom.segresample import nearest_mask
from medmtl.types import CaseError
from tests.helpers.dicom_labels import images, opened, plan_of, segmentation
from tests.helpers.dicom_writer import AXIAL, COLUMNS, ROWS, SLICES, Export, ct, ge_cine, grid, mr_volume

FILES = images()


def some_mask(seed: int = 0) -> np.ndarray:
    """``(Z, rows, columns)`` without any symmetry."""
    return np.random.default_rng(seed).random((SLICES, ROWS, COLUMNS)) < 0.3


def expected(mask: np.ndarray) -> np.ndarray:
    """The same as the reader gives it: the writer's files ascend along the normal."""
    return mask.transpose(2, 1, 0)


def placed(ds: Dataset, files: list[Dataset] = FILES) -> PlacedSegmentation:
    return place(read_segmentation(opened(ds)), LabelGrid.of(plan_of(files)))


def joined(found: PlacedSegmentation) -> np.ndarray:
    """All segments in one array, by their numbers."""
    return np.max([found.mask(segment.number) * segment.number for segment in found.source.drawn], axis=0)


def refusal(ds: Dataset, files: list[Dataset] = FILES) -> tuple[str, str]:
    with pytest.raises(CaseError) as caught:
        joined(placed(ds, files))
    return caught.value.code, str(caught.value)


def frames(ds: Dataset) -> list[Dataset]:
    return list(ds.PerFrameFunctionalGroupsSequence)


# ---- what cannot be placed


def test_an_image_is_no_segmentation() -> None:
    with pytest.raises(
        CaseError, match=r"labels.dcm: SegmentationType is None, so this is no segmentation"
    ) as caught:
        read_segmentation(opened(FILES[0]))
    assert caught.value.code == "UNDECODABLE"


def test_a_frame_of_a_segment_that_nobody_described_is_refused() -> None:
    ds = segmentation(FILES, {"one": some_mask(), "two": some_mask(1)})
    frames(ds)[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 4
    assert refusal(ds) == ("LABEL_VALUES", "labels.dcm, frame 1: no segment 4 is described")


def test_a_value_of_a_label_map_that_nobody_described_is_refused() -> None:
    ds = segmentation(FILES, {"one": some_mask()}, "LABELMAP")
    ds.PixelData = bytes([9]) + ds.PixelData[1:]
    assert refusal(ds) == (
        "LABEL_VALUES",
        "labels.dcm, frame 1: holds the value(s) 9, which no segment describes",
    )
    with pytest.raises(CaseError, match="which no segment describes"):
        placed(ds).mask(1)


def test_more_frames_than_pixels_are_refused() -> None:
    ds = segmentation(FILES, {"one": some_mask()})
    ds.PerFrameFunctionalGroupsSequence = [*frames(ds), frames(ds)[0]]
    assert refusal(ds) == (
        "UNDECODABLE",
        "labels.dcm: has 5 frame(s) of pixels and describes 6; export it again",
    )


def test_a_file_cut_in_its_pixels_is_refused() -> None:
    ds = segmentation(FILES, {"one": some_mask()})
    ds.PixelData = ds.PixelData[:60]
    assert refusal(ds)[0] in ("UNDECODABLE", "TRUNCATED")


def test_fractions_of_an_unknown_whole_are_refused() -> None:
    ds = segmentation(FILES, {"one": some_mask()}, "FRACTIONAL")
    del ds.MaximumFractionalValue
    assert refusal(ds)[0] == "LABEL_VALUES"
    assert "MaximumFractionalValue is missing" in refusal(ds)[1]


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        ((0.5, 0.0, 0.0), "0.75 mm off its columns"),
        ((0.0, 0.3, 0.0), "0.37 mm off its rows"),
        ((0.0, 0.0, 0.4), "3.2 mm off its slices"),
    ],
)
def test_frames_between_the_voxels_of_the_image_are_refused(
    shift: tuple[float, float, float], expected: str
) -> None:
    ds = segmentation(FILES, {"one": some_mask()})
    step = grid()[:3, :3] @ shift
    for frame in frames(ds):
        position = frame.PlanePositionSequence[0]
        position.ImagePositionPatient = [
            f"{v:.8g}" for v in np.array(position.ImagePositionPatient, float) + step
        ]
    code, message = refusal(ds)
    assert code == "LABEL_GEOMETRY_MISMATCH"
    assert message.startswith("labels.dcm, frame 1: does not lie on the image's grid")
    assert expected in message


def test_another_pixel_size_is_refused() -> None:
    ds = segmentation(FILES, {"one": some_mask()})
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.25, 1.6]
    assert refusal(ds)[0] == "LABEL_GEOMETRY_MISMATCH"
    assert "a step of one column is 1.6 mm, and the image's voxels are 1.5 mm" in refusal(ds)[1]


def test_another_orientation_is_refused() -> None:
    ds = segmentation(FILES, {"one": some_mask()})
    ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [
        1,
        0,
        0,
        0,
        1,
        0,
    ]
    assert refusal(ds)[0] == "LABEL_GEOMETRY_MISMATCH"


def test_labels_outside_the_image_are_refused() -> None:
    mask = some_mask()
    mask[-1, 0, 0] = True
    code, message = refusal(segmentation(FILES, {"one": mask}), FILES[:-1])
    assert code == "LABEL_GEOMETRY_MISMATCH"
    assert "labelled pixels outside the image" in message


def test_a_frame_outside_the_image_without_labels_is_no_matter() -> None:
    mask = some_mask()
    mask[-1] = False
    found = placed(segmentation(FILES, {"one": mask}, omit_empty_frames=False), FILES[:-1]).mask(1)
    np.testing.assert_array_equal(found, expected(mask[:-1]))


def test_a_frame_that_says_neither_where_it_is_nor_what_it_was_made_from_is_refused() -> None:
    ds = segmentation(FILES, {"one": some_mask()})
    for frame in frames(ds):
        del frame.PlanePositionSequence, frame.DerivationImageSequence
    assert refusal(ds)[0] == "MISSING_GEOMETRY"


def test_segments_that_overlap_stay_apart() -> None:
    one, two = some_mask(1), some_mask(2)
    found = placed(segmentation(FILES, {"one": one, "two": two}))
    np.testing.assert_array_equal(found.mask(1), expected(one))
    np.testing.assert_array_equal(found.mask(2), expected(two))


def test_a_segment_that_is_not_there_is_refused() -> None:
    found = placed(segmentation(FILES, {"one": some_mask()}))
    with pytest.raises(CaseError, match="has no segment 3; known are 1"):
        found.mask(3)


# ---- kinds


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_every_kind_comes_back_as_it_was_drawn(kind: str) -> None:
    one = some_mask(1)
    two = some_mask(2) & ~one
    found = placed(segmentation(FILES, {"one": one, "two": two}, kind))
    np.testing.assert_array_equal(found.mask(1), expected(one))
    np.testing.assert_array_equal(found.mask(2), expected(two))
    np.testing.assert_array_equal(joined(found), expected(one + 2 * two))
    assert [segment.label for segment in found.source.drawn] == ["one", "two"]
    assert found.source.kind == kind


def test_the_frames_of_a_label_map_are_decoded_once_for_all_segments() -> None:
    one = some_mask(1)
    source = read_segmentation(opened(segmentation(FILES, {"one": one, "two": ~one}, "LABELMAP")))
    asked: list[int] = []

    def pixels(index: int) -> np.ndarray:
        asked.append(index)
        return source.pixels(index)

    found = place(replace(source, pixels=pixels), LabelGrid.of(plan_of(FILES)))
    np.testing.assert_array_equal(joined(found), expected(one + 2 * ~one))
    assert sorted(asked) == list(range(len(source.frames)))


def test_segments_carry_their_codes() -> None:
    found = read_segmentation(opened(segmentation(FILES, {"one": some_mask()})))
    segment = found.segments[1]
    assert segment.type is not None
    assert segment.category is not None
    assert (segment.type.value, segment.type.scheme, segment.type.meaning) == ("10200004", "SCT", "Liver")
    assert segment.category.meaning == "Organ"
    assert segment.algorithm == "MANUAL"
    assert found.series_uids == {FILES[0].SeriesInstanceUID}
    assert found.study_uid == FILES[0].StudyInstanceUID


def test_a_share_is_inside_from_one_half_on_or_from_where_one_says() -> None:
    share = np.random.default_rng(3).integers(0, 256, (SLICES, ROWS, COLUMNS)) / 255.0
    found = placed(segmentation(FILES, {"one": share}, "FRACTIONAL", fractional_type="OCCUPANCY"))
    assert found.source.fractional_type == "OCCUPANCY"
    np.testing.assert_allclose(found.fraction(1), expected(share), atol=1e-6)
    np.testing.assert_array_equal(found.mask(1), expected(share >= 0.5))
    np.testing.assert_array_equal(found.mask(1, threshold=0.25), expected(share >= 0.25))
    np.testing.assert_array_equal(found.mask(1, threshold=0.0), expected(share > 0))


def test_compressed_fractions_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    share = (some_mask(4) * 255).astype(np.float32) / 255
    ds = segmentation(FILES, {"one": share}, "FRACTIONAL", transfer_syntax_uid=RLELossless)
    np.testing.assert_array_equal(placed(ds).mask(1), expected(share > 0.5))


def test_the_padding_of_a_label_map_is_no_segment() -> None:
    one = some_mask(1)
    ds = segmentation(FILES, {"one": one}, "LABELMAP")
    pixels = np.frombuffer(ds.PixelData, np.uint8).copy()
    pixels[pixels == 0] = 5
    ds.PixelData = pixels.tobytes()
    ds.add_new("PixelPaddingValue", "US", 5)
    found = placed(ds)
    assert [segment.number for segment in found.source.drawn] == [1]
    np.testing.assert_array_equal(found.mask(1), expected(one))


# ---- other writers


def test_empty_frames_may_be_left_out() -> None:
    mask = some_mask()
    mask[[1, 3]] = False
    ds = segmentation(FILES, {"one": mask})
    assert ds.NumberOfFrames == SLICES - 2
    np.testing.assert_array_equal(placed(ds).mask(1), expected(mask))


def test_the_order_of_frames_does_not_matter() -> None:
    mask = some_mask()
    ds = segmentation(FILES, {"one": mask, "two": ~mask})
    other = reordered(ds, np.random.default_rng(0).permutation(ds.NumberOfFrames))
    np.testing.assert_array_equal(joined(placed(other)), joined(placed(ds)))


@pytest.mark.parametrize("flip", ["columns", "rows", "both", "turned"])
def test_mirrored_and_turned_frames_lie_where_they_say(flip: str) -> None:
    mask = some_mask()
    ds = segmentation(FILES, {"one": mask})
    np.testing.assert_array_equal(placed(rewritten(ds, flip)).mask(1), expected(mask))


def test_frames_across_the_slices_of_the_image_lie_where_they_say() -> None:
    """A sagittal segmentation of an isotropic axial image."""
    affine = grid(orientation=AXIAL, spacing=(1.0, 1.0, 1.0))
    files = images(cube(affine))
    mask = some_mask()
    ds = deepcopy(segmentation(files, {"one": mask}, omit_empty_frames=False))
    pixels = mask.transpose(2, 0, 1)  # one frame per column of the image: rows are slices, columns are rows
    groups = []
    for x in range(COLUMNS):
        group = deepcopy(frames(ds)[0])
        group.PlanePositionSequence[0].ImagePositionPatient = [
            float(v) for v in affine[:3, 3] + x * affine[:3, 0]
        ]
        groups.append(group)
    store(ds, pixels, groups, [0, 1, 0, 0, 0, 1], [1.0, 1.0])
    np.testing.assert_array_equal(placed(ds, files).mask(1), expected(mask))


def test_a_frame_without_a_position_lies_on_the_image_that_it_was_made_from() -> None:
    mask = some_mask()
    ds = segmentation(FILES, {"one": mask})
    for frame in frames(ds):
        del frame.PlanePositionSequence
    np.testing.assert_array_equal(placed(ds).mask(1), expected(mask))


# ---- over time


def test_frames_of_a_cine_are_told_apart_by_the_files_that_they_name() -> None:
    cine, phases = cine_files(), 4
    mask = some_mask()
    third = [ds for number, ds in enumerate(cine) if number % phases == 2]
    found = placed(segmentation(third, {"one": mask}), cine)
    assert found.labelled.tolist() == [False, False, True, False]
    labels = found.mask(1)
    assert labels.shape == (COLUMNS, ROWS, SLICES, phases)
    np.testing.assert_array_equal(labels[..., 2], expected(mask))
    assert not labels[..., [0, 1, 3]].any()


def test_labels_of_a_cine_that_name_no_file_of_it_are_refused() -> None:
    cine = cine_files()
    ds = segmentation(cine[::4], {"one": some_mask()})
    for frame in frames(ds):
        del frame.DerivationImageSequence
    code, message = refusal(ds, cine)
    assert code == "TIME_AMBIGUOUS"
    assert "belongs to one of the image's 4 frames, and it names none of the image's files" in message


# ---- corrected images


def test_labels_of_a_tilted_stack_are_straightened_with_it() -> None:
    files = images(ct(tilt=15.0))
    plan = plan_of(files)
    assert plan.correction is not None
    mask = np.zeros((SLICES, ROWS, COLUMNS), bool)
    mask[:, 4:12, 3:9] = True
    found = placed(segmentation(files, {"one": mask}), files)
    straight = found.mask(1)
    assert straight.shape == plan.shape
    assert straight.sum() == pytest.approx(mask.sum(), rel=0.2)
    with pytest.raises(CaseError, match="fractions cannot be put on an image that was resampled"):
        found.fraction(1)


# ---- resampling, where it is asked for


def test_nearest_voxels_of_the_same_grid_are_the_mask_itself() -> None:
    mask = some_mask()
    source = read_segmentation(opened(segmentation(FILES, {"one": mask})))
    np.testing.assert_array_equal(nearest_mask(source, 1, LabelGrid.of(plan_of(FILES))), expected(mask))


def test_a_coarser_image_takes_the_nearest_pixels() -> None:
    affine = grid(orientation=AXIAL, spacing=(1.0, 1.0, 2.0))
    fine, coarse = images(cube(affine)), plan_of(images(cube(affine)))
    mask = np.zeros((SLICES, ROWS, COLUMNS), bool)
    mask[:, 4:12, 2:8] = True
    source = read_segmentation(opened(segmentation(fine, {"one": mask})))
    half = LabelGrid.of(coarse)
    shifted = replace(half, origins=half.origins + half.basis @ [0.3, -0.2, 0.4])
    np.testing.assert_array_equal(nearest_mask(source, 1, shifted), expected(mask))


def test_frames_that_are_not_parallel_cannot_be_resampled() -> None:
    source = read_segmentation(opened(segmentation(FILES, {"one": some_mask()})))
    bent: Segmentation = replace(
        source, frames=(replace(source.frames[0], orientation=AXIAL), *source.frames[1:])
    )
    with pytest.raises(CaseError, match="do not lie parallel on one grid") as caught:
        nearest_mask(bent, 1, LabelGrid.of(plan_of(FILES)))
    assert caught.value.code == "MISSING_GEOMETRY"


# ---- helpers


def cube(affine: np.ndarray) -> Export:
    """A volume on another grid than the usual one."""
    from tests.helpers.dicom_writer import frames_of

    return replace(mr_volume(), frames=frames_of(affine, phases=1), affine=affine, name="cube")


def cine_files() -> list[Dataset]:
    """A cine whose files agree on the frame of reference, which the other writer insists on."""
    files = images(ge_cine())
    for ds in files:
        ds.FrameOfReferenceUID = files[0].FrameOfReferenceUID
    return files


def pixels_of(ds: Dataset) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    return bits[: ds.NumberOfFrames * ds.Rows * ds.Columns].reshape(ds.NumberOfFrames, ds.Rows, ds.Columns)


def store(
    ds: Dataset, pixels: np.ndarray, groups: list[Dataset], orientation: list[float], spacing: list[float]
) -> None:
    """Puts other frames into a binary segmentation."""
    packed = np.packbits(np.ascontiguousarray(pixels).ravel(), bitorder="little").tobytes()
    ds.PixelData = packed + b"\0" * (len(packed) % 2)
    ds.NumberOfFrames, ds.Rows, ds.Columns = pixels.shape
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = orientation
    shared.PixelMeasuresSequence[0].PixelSpacing = spacing


def reordered(ds: Dataset, order: np.ndarray) -> Dataset:
    made = deepcopy(ds)
    shared = made.SharedFunctionalGroupsSequence[0]
    store(
        made,
        pixels_of(ds)[order],
        [deepcopy(frames(ds)[i]) for i in order],
        list(shared.PlaneOrientationSequence[0].ImageOrientationPatient),
        list(shared.PixelMeasuresSequence[0].PixelSpacing),
    )
    return made


def rewritten(ds: Dataset, flip: str) -> Dataset:
    """The same segmentation by a writer that stores its rows or columns the other way round."""
    made = deepcopy(ds)
    shared = made.SharedFunctionalGroupsSequence[0]
    across, down = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    height, width = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    pixels, groups = pixels_of(ds), [deepcopy(frame) for frame in frames(ds)]
    move = np.zeros(3)
    if flip in ("columns", "both"):
        pixels, move, across = pixels[:, :, ::-1], move + (ds.Columns - 1) * width * across, -across
    if flip in ("rows", "both"):
        pixels, move, down = pixels[:, ::-1], move + (ds.Rows - 1) * height * down, -down
    if flip == "turned":
        pixels, (across, down), (height, width) = pixels.transpose(0, 2, 1), (down, across), (width, height)
    for group in groups:
        position = group.PlanePositionSequence[0]
        position.ImagePositionPatient = [
            f"{v:.8g}" for v in np.array(position.ImagePositionPatient, float) + move
        ]
    store(made, pixels, groups, [float(v) for v in (*across, *down)], [height, width])
    return made
