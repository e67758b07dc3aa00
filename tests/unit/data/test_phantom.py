"""The phantom cohort: what a physicist, a statistician and a user with a typing error would check."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medmtl.data.phantom import DISEASES, PhantomCase, generate_cohort, make_case
from medmtl.data.phantom.anatomy import Heart, build_heart, grid, volume_ml
from medmtl.data.phantom.motion import deform, draw_cycle, function_values
from medmtl.data.phantom.population import Patient, draw_patient
from medmtl.data.phantom.raster import draw_pose, outline_mm
from medmtl.types import ConfigError, MedmtlError, OutputError

RV, MYO, LV, SCAR = 1, 2, 3, 2
SHAPE, SPACING = (64, 64, 10), (2.5, 2.5, 9.0)
VOXEL_ML = 2.5 * 2.5 * 9.0 / 1000


def _patient(disease: str, seed: int) -> tuple[Patient, Heart]:
    rng = np.random.default_rng(seed)
    patient = draw_patient(disease, rng)
    return patient, build_heart(patient, rng)


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    """Twenty cases, four of each disease, with the least number of frames."""
    return [make_case(index, seed=7, frames=2) for index in range(20)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drop = {"anatomy": 0.3, "t1": 0.5, "disease": 0.2, "LV_EF": 1.0}
    return generate_cohort(tmp_path_factory.mktemp("p") / "raw", cases=7, frames=3, seed=3, drop_labels=drop)


def _rows(root: Path) -> list[dict[str, str]]:
    with (root / "truth.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _voxel_ml(case: PhantomCase, frame: int, label: int) -> float:
    return float((case.anatomy[frame] == label).sum() * VOXEL_ML)


# --------------------------------------------------------------------------------------------- unhappy cases


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"cases": 0}, "cases is 0"),
        ({"cases": 1, "frames": 1}, "frames is 1"),
        ({"cases": 1, "seed": -1}, "seed is -1"),
        ({"cases": 1, "workers": 0}, "workers is 0"),
        ({"cases": 1, "drop_labels": {"anatomy": 1.2}}, "'anatomy' is 1.2"),
        ({"cases": 1, "drop_labels": {"anatomy": float("nan")}}, "'anatomy' is nan"),
        ({"cases": 1, "drop_labels": {"anatomie": 0.5}}, "did you mean 'anatomy'"),
        ({"cases": 1, "splits": {"train": 0.5}}, "0.5"),
        ({"cases": 1, "shape": (32, 64, 10)}, "along x is 32 x 2.5 = 80 mm"),
        ({"cases": 1, "spacing_mm": (2.5, 0.0, 9.0)}, r"spacing_mm\[1\] is 0.0"),
        ({"cases": 1, "shape": (64, 64)}, "three numbers"),
    ],
)
def test_a_bad_argument_is_named_and_nothing_is_written(tmp_path: Path, arguments: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        generate_cohort(tmp_path / "raw", **arguments)
    assert not (tmp_path / "raw").exists()


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not an empty folder") as caught:
        generate_cohort(tmp_path, cases=1)
    assert isinstance(caught.value, MedmtlError)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# ----------------------------------------------------------------------------------------------- determinism


def test_the_same_seed_draws_the_same_arrays_and_another_seed_others() -> None:
    first, again, other = (
        make_case(4, seed=1, frames=2),
        make_case(4, seed=1, frames=2),
        make_case(4, seed=2, frames=2),
    )
    for name in ("cine", "lge"):
        np.testing.assert_array_equal(first.images[name], again.images[name])
        assert (first.images[name] != other.images[name]).any()
    np.testing.assert_array_equal(first.anatomy, again.anatomy)
    np.testing.assert_array_equal(first.t1, again.t1)
    assert first.values == again.values


def test_a_case_does_not_depend_on_how_many_there_are_or_on_the_workers(tmp_path: Path) -> None:
    few = generate_cohort(tmp_path / "few", cases=2, frames=2, seed=5, workers=1)
    more = generate_cohort(tmp_path / "more", cases=4, frames=2, seed=5, workers=3)
    assert _rows(few) == _rows(more)[:2]
    files = sorted(path.relative_to(few) for path in few.glob("phantom_*/*"))
    assert len(files) == 10
    for file in files:
        assert (few / file).read_bytes() == (more / file).read_bytes(), file


# --------------------------------------------------------------------------------------------------- physics


@pytest.mark.parametrize("disease", DISEASES)
def test_the_wall_and_its_scar_keep_their_volume_while_the_heart_beats(disease: str) -> None:
    for seed in range(6):
        patient, heart = _patient(disease, seed)
        rest = deform(heart, patient, 0.0)
        for emptying in (0.2, 0.6, 1.0):
            frame = deform(heart, patient, emptying)
            assert frame.myocardium_ml == pytest.approx(rest.myocardium_ml, rel=1e-9)
            assert frame.scar_ml == pytest.approx(rest.scar_ml, rel=1e-9, abs=1e-9)
            assert frame.height_mm < rest.height_mm


@pytest.mark.parametrize("disease", DISEASES)
def test_the_truth_of_the_shape_is_what_the_patient_was_meant_to_have(disease: str) -> None:
    for seed in range(6):
        patient, heart = _patient(disease, seed)
        values = function_values(deform(heart, patient, 0.0), deform(heart, patient, 1.0))
        assert values["LV_EDV"] == pytest.approx(patient.lv_edv_ml, rel=1e-6)
        assert values["LV_EF"] == pytest.approx(patient.lv_ef, abs=0.5)
        assert values["RV_EF"] == pytest.approx(patient.rv_ef, abs=0.5)
        assert (heart.epi2 > heart.endo2).all()


def test_a_ball_has_the_volume_of_the_textbook() -> None:
    phi, u = grid()
    radius2 = np.broadcast_to(30.0**2 * (1 - (2 * u - 1) ** 2), (phi.size, u.size))
    assert volume_ml(radius2, 0.0, 60.0) == pytest.approx(4 / 3 * np.pi * 3.0**3, rel=1e-4)
    assert volume_ml(radius2, radius2 + 1, 60.0) == 0


def test_the_healthy_wall_thickens_and_the_infarct_does_not() -> None:
    patient, heart = _patient("MINF", 2)
    rest, systole = deform(heart, patient, 0.0), deform(heart, patient, 1.0)
    assert patient.infarct is not None
    level = int(patient.infarct.level * heart.u.size)
    scarred = int(patient.infarct.angle / (2 * np.pi) * heart.phi.size) % heart.phi.size
    remote = (scarred + heart.phi.size // 2) % heart.phi.size

    def thickening(row: int) -> float:
        before, after = (np.sqrt(f.epi2[row, level]) - np.sqrt(f.endo2[row, level]) for f in (rest, systole))
        return float(after / before - 1)

    assert thickening(remote) > 0.3
    assert thickening(scarred) < 0.15


def test_end_diastole_is_the_fullest_frame_and_end_systole_the_emptiest() -> None:
    rng = np.random.default_rng(0)
    late = 0
    for _ in range(60):
        patient = draw_patient("NOR", rng)
        cycle = draw_cycle(patient, 10, rng)
        assert cycle.emptying[cycle.frame_ed] == 0 == cycle.emptying.min()
        assert cycle.emptying[cycle.frame_es] == 1 == cycle.emptying.max()
        assert 0.25 <= ((cycle.frame_es - cycle.frame_ed) % 10) / 10 <= 0.6
        late += cycle.frame_ed > 0
    assert 0 < late < 30


@pytest.mark.parametrize("disease", DISEASES)
def test_the_heart_lies_inside_the_field_of_view(disease: str) -> None:
    for seed in range(25):
        patient, heart = _patient(disease, seed)
        ed = deform(heart, patient, 0.0)
        pose = draw_pose(heart, ed, SHAPE, SPACING, np.random.default_rng(seed))
        points = outline_mm(heart, ed, pose.rotation) + pose.apex_mm
        reach = np.abs(points).max(axis=0)
        reach[:2] += np.abs(pose.slice_shift_mm).max(axis=0)
        assert (reach <= np.multiply(SHAPE, SPACING) / 2).all(), (seed, reach)


# ---------------------------------------------------------------------------------- voxels against the truth


def test_volumes_counted_in_voxels_agree_with_the_analytic_truth(cases: list[PhantomCase]) -> None:
    errors: dict[str, list[float]] = {"LV": [], "RV": [], "MYO": [], "EF": []}
    for case in cases:
        ed, es = case.cycle.frame_ed, case.cycle.frame_es
        lv = _voxel_ml(case, ed, LV)
        errors["LV"].append(lv / case.values["LV_EDV"] - 1)
        errors["RV"].append(_voxel_ml(case, ed, RV) / case.values["RV_EDV"] - 1)
        errors["MYO"].append(1.05 * _voxel_ml(case, ed, MYO) / case.values["MYO_mass"] - 1)
        errors["EF"].append(100 * (1 - _voxel_ml(case, es, LV) / lv) - case.values["LV_EF"])
    for name, limit in {"LV": 0.10, "RV": 0.10, "MYO": 0.08, "EF": 9.0}.items():
        error = np.array(errors[name])
        assert np.abs(error).max() < limit, name  # a slice more or less at the base
        assert np.abs(np.median(error)) < limit / 4, name  # but no bias
        assert np.median(np.abs(error)) < limit / 3, name


def test_no_label_touches_the_edge_of_the_image(cases: list[PhantomCase]) -> None:
    for case in cases:
        inner = case.anatomy[:, 1:-1, 1:-1]
        assert (inner > 0).sum() == (case.anatomy > 0).sum() > 0


def test_scar_lies_in_the_myocardium_of_infarcts_and_nowhere_else(cases: list[PhantomCase]) -> None:
    assert sorted(case.patient.disease for case in cases) == sorted(DISEASES * 4)
    for case in cases:
        scar = case.tissue == SCAR
        assert bool(scar.any()) == (case.patient.disease == "MINF") == (case.values["scar_mass"] > 0)
        np.testing.assert_array_equal(case.tissue > 0, case.anatomy == MYO)


def test_scar_is_bright_and_muscle_dark_in_late_enhancement(cases: list[PhantomCase]) -> None:
    for case in cases:
        lge, cine = case.images["lge"], case.images["cine"]
        healthy = case.tissue == 1
        assert np.median(lge[healthy]) < 0.75 * np.median(lge[case.anatomy == LV])
        assert np.median(cine[healthy]) < 0.75 * np.median(cine[case.anatomy == LV])
        if case.patient.disease == "MINF":
            assert np.median(lge[case.tissue == SCAR]) > 1.5 * np.median(lge[healthy])


def test_the_t1_map_covers_the_heart_at_end_diastole_and_end_systole_only() -> None:
    case = make_case(0, seed=7, frames=4)
    labelled = (case.cycle.frame_ed, case.cycle.frame_es)
    for frame in range(4):
        expected = (case.anatomy[frame] > 0) & (frame in labelled)
        np.testing.assert_array_equal(np.isfinite(case.t1[frame]), expected)
    assert 850 < np.nanmedian(case.t1[case.tissue == 1]) < 1200
    assert 1350 < np.nanmedian(case.t1[case.anatomy == LV]) < 1800


# ------------------------------------------------------------------------------------------------ statistics


def _truths(number: int) -> tuple[np.ndarray, list[str]]:
    rows, diseases = [], []
    for seed in range(number):
        for disease in DISEASES:
            patient, heart = _patient(disease, seed)
            values = function_values(deform(heart, patient, 0.0), deform(heart, patient, 1.0))
            rows.append([*values.values(), patient.height_cm, patient.weight_kg])
            diseases.append(disease)
    return np.array(rows), diseases


def test_a_linear_model_tells_the_classes_by_their_truth_though_their_ranges_overlap() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, diseases = _truths(30)
    without_scar = np.delete(values, 7, axis=1)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    assert 0.82 < cross_val_score(model, without_scar, diseases, cv=5).mean() < 1.0
    ef = {disease: values[np.array(diseases) == disease, 2] for disease in DISEASES}
    assert ef["DCM"].mean() < ef["MINF"].mean() < ef["NOR"].mean()
    assert ef["DCM"].max() < ef["NOR"].min()
    assert ef["DCM"].max() > ef["MINF"].min()
    assert ef["HCM"].min() < ef["NOR"].max()


def test_the_mean_intensity_does_not_tell_the_classes(cases: list[PhantomCase]) -> None:
    means = {
        disease: [c.images["cine"].mean() for c in cases if c.patient.disease == disease]
        for disease in DISEASES
    }
    between = np.std([np.mean(values) for values in means.values()])
    within = np.mean([np.std(values) for values in means.values()])
    assert between < within


# ----------------------------------------------------------------------------------------------------- files


def test_labels_are_dropped_in_the_stated_number(cohort: Path) -> None:
    rows = _rows(cohort)
    assert len(list(cohort.glob("*/anatomy.nii.gz"))) == 7 - 2  # 0.3 x 7 = 2.1
    assert len(list(cohort.glob("*/t1.nii.gz"))) == 7 - 4  # 3.5 rounds up
    assert len(list(cohort.glob("*/tissue.nii.gz"))) == 7
    assert [row["disease"] for row in rows].count("") == 1  # 1.4
    assert [row["LV_EF"] for row in rows] == [""] * 7
    assert all(row["LV_EDV"] for row in rows)


def test_the_files_have_the_stated_names_types_and_geometry(cohort: Path) -> None:
    assert sorted(path.name for path in cohort.iterdir()) == [
        *(f"phantom_{i:04d}" for i in range(1, 8)),
        "truth.csv",
    ]
    header = [
        "case_id",
        "patient",
        "disease",
        "frame_ed",
        "frame_es",
        "height",
        "weight",
        "LV_EDV",
        "LV_ESV",
        "LV_EF",
    ]
    header += ["RV_EDV", "RV_ESV", "RV_EF", "MYO_mass", "scar_mass", "time_step_ms"]
    row = _rows(cohort)[0]
    assert list(row) == header
    types = {"cine": "int16", "lge": "int16", "anatomy": "uint8", "tissue": "uint8", "t1": "float32"}
    seen = set()
    for path in cohort.glob("*/*.nii.gz"):
        image = nibabel.load(path)
        seen.add(name := path.name.removesuffix(".nii.gz"))
        assert image.get_data_dtype() == types[name]
        assert image.shape == (*SHAPE, 3)
        np.testing.assert_allclose(image.header.get_zooms()[:3], SPACING)
        np.testing.assert_allclose(image.affine[:3, :3], np.diag([-2.5, -2.5, 9.0]))
    assert seen == set(types)
    step = nibabel.load(cohort / "phantom_0001" / "cine.nii.gz").header.get_zooms()[3]
    assert step == pytest.approx(float(row["time_step_ms"]), abs=1e-3)


def test_what_is_written_is_what_was_drawn(cohort: Path) -> None:
    case = make_case(1, seed=3, frames=3)
    cine = np.asarray(nibabel.load(cohort / "phantom_0002" / "cine.nii.gz").dataobj)
    np.testing.assert_array_equal(np.moveaxis(cine, -1, 0), case.images["cine"])
    row = _rows(cohort)[1]
    assert float(row["RV_EDV"]) == pytest.approx(case.values["RV_EDV"], abs=1e-4)
    assert (int(row["frame_ed"]), int(row["frame_es"])) == (case.cycle.frame_ed, case.cycle.frame_es)


def test_splits_are_stratified_and_progress_counts_to_the_end(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    root = generate_cohort(
        tmp_path / "raw",
        cases=10,
        frames=2,
        splits={"train": 0.5, "test": 0.5},
        drop_labels={"disease": 1.0},
        progress=lambda done, total: calls.append((done, total)),
    )
    assert [row["split"] for row in _rows(root)].count("test") == 5
    assert calls == [(done, 10) for done in range(1, 11)]
    complete = [make_case(index, frames=2).patient.disease for index in range(10)]
    tested = [name for name, row in zip(complete, _rows(root), strict=True) if row["split"] == "test"]
    assert sorted(tested) == sorted(DISEASES)


def test_finer_voxels_come_closer_to_the_same_truth() -> None:
    coarse = make_case(3, seed=7, frames=2)
    case = make_case(3, seed=7, frames=2, shape=(96, 96, 30), spacing_mm=(1.7, 1.7, 3.0))
    counted = (case.anatomy[case.cycle.frame_ed] == LV).sum() * 1.7 * 1.7 * 3.0 / 1000
    assert counted == pytest.approx(case.values["LV_EDV"], rel=0.02)
    assert case.values == coarse.values
