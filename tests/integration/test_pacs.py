"""Against a real Orthanc, with its authentication on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medmtl import verbs
from medmtl.data.dicom import load, scan
from medmtl.data.dicom.web import Patience, Server, fetched_study, parse_address, store_files
from medmtl.data.phantom.dicom import write_dicom
from medmtl.inference import Model
from medmtl.inference.find.web import find_web
from medmtl.inference.stow import send_case
from medmtl.types import CaseError, ConfigError
from tests.helpers import orthanc
from tests.helpers.orthanc import Orthanc
from tests.helpers.small_dicom import small
from tests.helpers.study import heart, make_job, make_ready, sections, write_study

pytestmark = pytest.mark.skipif(bool(orthanc.MISSING), reason=orthanc.MISSING)
QUICK = Patience(connect_s=5.0, read_s=20.0, tries=2, pause_s=0.05)


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc.running(tmp_path_factory.mktemp("pacs") / "orthanc") as found:
        yield found


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDMTL_DICOMWEB_USER", orthanc.USER)
    monkeypatch.setenv("MEDMTL_DICOMWEB_PASSWORD", orthanc.PASSWORD)
    monkeypatch.setenv("NETRC", "/nowhere")


def phantom(folder: Path, seed: int) -> list[Path]:
    """A study of a cine, other pixels and UIDs for another seed."""
    cine = np.random.default_rng(seed).integers(0, 900, (3, 12, 10, 4), dtype=np.int16)
    return write_dicom(folder, cine, spacing_mm=(1.5, 1.25, 8.0), time_step_ms=40.0)


def fill(pacs: Orthanc, files: list[Path]) -> None:
    with Server(parse_address(pacs.address), QUICK) as server:
        store_files(server, files)


def uid_of(files: list[Path]) -> str:
    return next(iter(scan(files).series)).study_uid


def test_a_study_comes_back_from_the_pacs_as_it_went_in(pacs: Orthanc, tmp_path: Path) -> None:
    files = phantom(tmp_path / "study", 1)
    fill(pacs, files)
    address = parse_address(pacs.address).of_study(uid_of(files))
    with fetched_study(address, patience=QUICK) as (folder, series):
        fetched = sorted(path.read_bytes() for path in folder.rglob("*.dcm"))
        [before], [after] = (found.series[0].volumes for found in (scan(files), scan([folder])))
        assert np.array_equal(load(before).array, load(after).array)
        assert np.array_equal(before.affine, after.affine)
    assert [(entry.modality, entry.instances) for entry in series] == [("MR", len(files))]
    assert fetched == sorted(path.read_bytes() for path in files)
    assert not folder.exists()


def test_the_studies_of_an_address_become_items_and_others_do_not(pacs: Orthanc, tmp_path: Path) -> None:
    uids = []
    for seed in (2, 3):
        files = phantom(tmp_path / str(seed), seed)
        fill(pacs, files)
        uids.append(uid_of(files))
    found = {item.study_uid: item for item in find_web(pacs.address, str, patience=QUICK)}
    assert set(uids) <= set(found)
    assert {item.kind for item in found.values()} == {"web"}
    assert found[uids[0]].paths == (f"{pacs.address}?StudyInstanceUID={uids[0]}",)
    two = list(find_web(f"{pacs.address}?StudyInstanceUID={','.join(uids)}", str, patience=QUICK))
    assert [item.study_uid for item in two] == uids
    by_modality = list(find_web(f"{pacs.address}?ModalitiesInStudy=MR", str, patience=QUICK))
    assert {item.study_uid for item in by_modality} == set(found)


def test_a_search_is_read_page_by_page(
    pacs: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medmtl.data.dicom.web.search.PAGE", 2)
    uids = {f"1.2.3.77.{number}" for number in range(5)}
    files = []
    for number, uid in enumerate(sorted(uids)):
        files.append(tmp_path / f"{number}.dcm")
        values = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "SOPInstanceUID": f"{uid}.1.1"}
        files[-1].write_bytes(small(1, StudyDate="20010203", **values))
    fill(pacs, files)
    found = [item.study_uid for item in find_web(f"{pacs.address}?StudyDate=20010203", str, patience=QUICK)]
    assert sorted(found) == sorted(uids)


def test_a_study_that_the_pacs_lacks_is_a_refused_item(pacs: Orthanc) -> None:
    [item] = find_web(f"{pacs.address}?StudyInstanceUID=1.2.3.4.5.6", str, patience=QUICK)
    assert item.refused is not None
    assert item.refused[0] == "PACS_NOT_FOUND"


def test_filters_that_nothing_matches_are_said(pacs: Orthanc) -> None:
    with pytest.raises(ConfigError, match="no such study"):
        list(find_web(f"{pacs.address}?StudyDate=18990101", str, patience=QUICK))


def test_results_sent_back_lie_in_the_study_and_do_not_change_its_fingerprint(
    pacs: Orthanc, tmp_path: Path
) -> None:
    files = phantom(tmp_path / "study", 5)
    fill(pacs, files)
    uid = uid_of(files)
    address = f"{pacs.address}?StudyInstanceUID={uid}"
    [before] = find_web(address, str, patience=QUICK)
    case = tmp_path / "case"
    case.mkdir()
    for number, (name, modality) in enumerate((("segmentation", "SEG"), ("measurements", "SR")), start=1):
        values = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid[:50]}.9{number}"}
        (case / f"{name}.dcm").write_bytes(small(900 + number, Modality=modality, **values))
    assert send_case(case, before.paths[0], patience=QUICK) == 2
    assert send_case(case, before.paths[0], patience=QUICK) == 2
    assert [name for name in pacs.modalities() if name in ("SEG", "SR")] == ["SEG", "SR"]
    [after] = find_web(address, str, patience=QUICK)
    assert after.fingerprint == before.fingerprint
    with fetched_study(parse_address(address), patience=QUICK, modalities={"MR"}) as (folder, series):
        assert len(list(folder.rglob("*.dcm"))) == len(files)
    assert sorted(entry.modality for entry in series) == ["MR", "SEG", "SR"]


def test_what_is_no_dicom_is_not_taken(pacs: Orthanc, tmp_path: Path) -> None:
    (tmp_path / "segmentation.dcm").write_bytes(b"no DICOM at all")
    with pytest.raises(CaseError, match=r"segmentation\.dcm") as caught:
        send_case(tmp_path, pacs.address, patience=QUICK)
    assert caught.value.code in ("PACS_REJECTED", "PACS_FAILED")


@pytest.mark.parametrize("password", ["wrong", None])
def test_a_wrong_or_missing_password_is_denied_at_once(
    pacs: Orthanc, monkeypatch: pytest.MonkeyPatch, password: str | None
) -> None:
    if password is None:
        monkeypatch.delenv("MEDMTL_DICOMWEB_USER")
        monkeypatch.delenv("MEDMTL_DICOMWEB_PASSWORD")
    else:
        monkeypatch.setenv("MEDMTL_DICOMWEB_PASSWORD", password)
    with pytest.raises(ConfigError, match=r"access denied \(HTTP 401\); set .* \[PACS_DENIED\]"):
        list(find_web(pacs.address, str, patience=QUICK))


def test_netrc_gives_the_password(pacs: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDMTL_DICOMWEB_USER")
    monkeypatch.delenv("MEDMTL_DICOMWEB_PASSWORD")
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {orthanc.USER} password {orthanc.PASSWORD}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fill(pacs, phantom(tmp_path / "study", 6))
    assert list(find_web(pacs.address, str, patience=QUICK))


def test_no_log_line_holds_the_password(
    pacs: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    files = phantom(tmp_path / "study", 7)
    fill(pacs, files)
    address = parse_address(pacs.address).of_study(uid_of(files))
    with fetched_study(address, patience=QUICK):
        pass
    assert caplog.records, "the libraries below do log"
    assert orthanc.PASSWORD not in caplog.text
    assert "Authorization" not in caplog.text


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Random weights; what it says does not matter here."""
    root = tmp_path_factory.mktemp("model")
    dataset = write_study(root / "dataset")
    return make_ready(make_job(dataset, root / "run", sections("anatomy", "function"))).model


def cine(folder: Path, seed: int) -> list[Path]:
    noise = np.random.default_rng(seed).integers(0, 9, (2, 16, 16, 4))
    pictures = np.stack([50 * heart(4.0).astype(np.int16), 50 * heart(3.0).astype(np.int16)]) + noise
    return write_dicom(folder, pictures.astype(np.int16), spacing_mm=(2.0, 2.0, 8.0), time_step_ms=40.0)


def test_predict_reads_from_the_pacs_and_sends_back_and_nothing_is_done_twice(
    pacs: Orthanc, model: Model, tmp_path: Path
) -> None:
    uids = []
    for seed in (11, 12):
        files = cine(tmp_path / str(seed), seed)
        fill(pacs, files)
        uids.append(uid_of(files))
    address = f"{pacs.address}?StudyInstanceUID={','.join(uids)},1.2.3.4.5"
    before = pacs.modalities()
    first = verbs.predict(model, address, output=tmp_path / "out", send="source", device="cpu", workers=0)
    rows = first.table.set_index("case_id")
    assert rows.loc[uids, "status"].tolist() == ["ok", "ok"]
    assert rows.loc["1.2.3.4.5", "code"] == "PACS_NOT_FOUND"
    after = pacs.modalities()
    assert [after.count(name) - before.count(name) for name in ("SEG", "SR", "MR")] == [2, 2, 0]
    for uid in uids:
        fetched = parse_address(pacs.address).of_study(uid)
        with fetched_study(fetched, patience=QUICK, modalities={"SEG"}) as (folder, _):
            [sent] = [path.read_bytes() for path in folder.rglob("*.dcm")]
        assert sent == (tmp_path / "out" / uid / "segmentation.dcm").read_bytes()
        assert (tmp_path / "out" / uid / "report.html").is_file()
    again = verbs.predict(model, address, output=tmp_path / "out", send="source", device="cpu", workers=0)
    assert again.done == 0
    assert pacs.modalities() == after
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or orthanc.PASSWORD.encode() not in path.read_bytes(), path.name


def test_what_cannot_be_sent_fails_and_keeps_its_results(pacs: Orthanc, model: Model, tmp_path: Path) -> None:
    files = cine(tmp_path / "study", 13)
    fill(pacs, files)
    source = f"{pacs.address}?StudyInstanceUID={uid_of(files)}"
    wrong = pacs.address.replace("/dicom-web", "/elsewhere")
    options = {"output": tmp_path / "out", "send": wrong, "device": "cpu", "workers": 0}
    first = verbs.predict(model, source, **options)
    assert first.table["status"].tolist() == ["failed"]
    assert first.table["code"].tolist() == ["PACS_NOT_FOUND"]
    assert (tmp_path / "out" / uid_of(files) / "segmentation.dcm").is_file()
