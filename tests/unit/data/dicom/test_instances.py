"""Reading the files of a scan: broken ones are said, copies are dropped, contradictions are not hidden."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless

from medmtl.data.dicom.files import InflatedSource
from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.sources import find_sources
from medmtl.types import Finding
from tests.helpers.small_dicom import SHIPPED, Memory, dataset, element, encoded, small


def read(files: dict[str, bytes]) -> tuple[dict[str, Instance], list[Finding]]:
    """Instances by label, and findings."""
    instances, findings = read_instances([Memory(data, label) for label, data in files.items()])
    return {instance.source.label: instance for instance in instances}, findings


def fault(data: bytes, label: str = "bad.dcm") -> tuple[Instance | None, Finding]:
    """What comes of a broken file between two good ones, which are always read."""
    instances, findings = read({"a": small(901), label: data, "z": small(902)})
    assert {"a", "z"} <= instances.keys()
    (finding,) = findings
    assert finding.where == label
    return instances.get(label), finding


# --------------------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize("label", ["bad.dcm", "IM000001", "BAD.IMA"])
def test_an_empty_file_is_named(label: str) -> None:
    instance, finding = fault(b"", label)
    assert instance is None
    assert (finding.code, finding.severity) == ("TRUNCATED", "error")
    assert finding.message == f"{label} is empty; copy it anew"


def test_an_empty_file_with_the_name_of_something_else_is_something_else() -> None:
    _, finding = fault(b"", "notes.txt")
    assert (finding.code, finding.severity) == ("NOT_AN_IMAGE", "info")


@pytest.mark.parametrize("content", [b"words", b"\0" * 5000, small()[:100], b"\x89PNG" + b"\0" * 300])
def test_a_file_that_is_called_dicom_and_is_none_is_named(content: bytes) -> None:
    instance, finding = fault(content)
    assert instance is None
    assert (finding.code, finding.severity) == ("UNDECODABLE", "error")


@pytest.mark.parametrize("end", [140, 200, 330, 400, 500, 600])
def test_a_file_that_breaks_off_in_its_header_has_no_pixels_and_is_named(end: int) -> None:
    instance, finding = fault(small()[:end])
    assert instance is None or instance.pixels is None
    assert finding.severity == "error"
    assert finding.code in ("TRUNCATED", "UNDECODABLE")


@pytest.mark.parametrize("missing", [1, 2, 23, 24])
def test_a_file_that_breaks_off_in_its_pixels_has_none_and_is_named(missing: int) -> None:
    instance, finding = fault(small()[:-missing])
    assert instance is not None
    assert instance.pixels is None
    assert (finding.code, finding.severity) == ("TRUNCATED", "error")
    assert finding.message == f"bad.dcm holds {24 - missing} of 24 bytes of pixels; copy it anew"


def test_ten_gigabytes_claimed_by_a_small_file_are_not_believed() -> None:
    for claim in ({"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 2_000_000_000}):
        instance, finding = fault(small(**claim))
        assert instance is not None
        assert instance.pixels is None
        assert finding.code == "TRUNCATED"
        assert "of pixels that its header describes" in finding.message


def test_a_length_of_pixels_beyond_the_file_is_not_believed() -> None:
    data = small()
    at = data.index(b"\xe0\x7f\x10\0OW") + 8
    instance, finding = fault(data[:at] + b"\xf0\xff\xff\xff" + data[at + 4 :])
    assert instance is not None
    assert instance.pixels is None
    assert finding.message == "bad.dcm holds 24 of 4,294,967,280 bytes of pixels; copy it anew"


def test_an_image_without_pixels_is_kept_and_named() -> None:
    instance, finding = fault(small(PixelData=None))
    assert instance is not None
    assert instance.pixels is None
    assert finding.message.startswith("bad.dcm describes an image but holds no pixels")


def test_a_report_has_no_pixels_and_nothing_is_wrong_with_it() -> None:
    files = {name: (SHIPPED / name).read_bytes() for name in ("rtstruct.dcm", "test-SR.dcm")}
    instances, findings = read(files)
    assert [instance.pixels for instance in instances.values()] == [None, None]
    assert findings == []


@pytest.mark.parametrize("cut", [1, 9, 30])
def test_compressed_pixels_that_break_off_are_named(tmp_path: Path, cut: int) -> None:
    def compressed(number: int) -> bytes:
        ds = dataset(number, PixelData=encapsulate([b"\7" * 40, b"\7" * 60]))
        ds["PixelData"].is_undefined_length = True
        return encoded(ds, RLELossless)

    (tmp_path / "cut.dcm").write_bytes(compressed(1)[:-cut])
    (tmp_path / "padded.dcm").write_bytes(compressed(2) + element(0xFFFCFFFC, b"OB", bytes(20)))
    (tmp_path / "undelimited.dcm").write_bytes(compressed(3)[:-8])
    (tmp_path / "whole.dcm").write_bytes(compressed(4))
    instances, (finding,) = read_instances(find_sources([tmp_path]))
    assert [instance.pixels is None for instance in instances] == [True, False, False, False]
    assert (finding.code, finding.severity, finding.where) == ("TRUNCATED", "error", "cut.dcm")


def test_elements_that_make_no_sense_are_one_finding_each() -> None:
    files = {f"{n:02}": small(n) for n in range(1, 9)}
    rows, wrong = element(0x00280010, b"US", b"\4\0"), element(0x00200032, b"DS", b"1\\2\\x ")
    for n in (3, 4, 5, 6):
        files[f"{n:02}"] = small(n, ImagePositionPatient=None).replace(rows, wrong + rows)
    instances, (finding,) = read(files)
    assert len(instances) == 8
    assert (finding.code, finding.severity, finding.where) == ("UNDECODABLE", "warning", "03")
    assert finding.message == (
        "ImagePositionPatient makes no sense in 4 files and is taken as absent: 03, 04, 05 and 1 more"
    )


def test_a_file_without_uids_is_read() -> None:
    gone: dict[str, Any] = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    instances, findings = read({"1": small(1, **gone), "2": small(2, **gone)})
    assert len(instances) == 2
    assert findings == []


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(small()) - 1), st.binary(min_size=1, max_size=12), st.integers(0, 700))
def test_whatever_is_wrong_with_a_file_the_others_are_read(at: int, put: bytes, cut: int) -> None:
    data = small()
    data = (data[:at] + put + data[at + len(put) :])[: len(data) - cut]
    instances, findings = read({"a": small(901), "bad.dcm": data, "z": small(902)})
    assert {"a", "z"} <= instances.keys()
    assert "bad.dcm" in instances or "bad.dcm" in {finding.where for finding in findings}
    for instance in instances.values():
        instance.header.as_dict()


# ---------------------------------------------------------------------------------------- odd, but readable


def without_preamble(data: bytes) -> bytes:
    return data[132:]


def without_meta(data: bytes) -> bytes:
    return data[data.index(b"\x08\0\x08\0CS") :]


def implicit_without_meta(_: bytes) -> bytes:
    data = small(syntax="1.2.840.10008.1.2")
    return data[data.index(b"\x08\0\x08\0") :]


def deflated(_: bytes) -> bytes:
    return small(syntax=DeflatedExplicitVRLittleEndian)


def big_endian(_: bytes) -> bytes:
    ds = dataset()
    ds.set_original_encoding(False, False)
    return encoded(ds, ExplicitVRBigEndian)


@pytest.mark.parametrize(
    "change", [without_preamble, without_meta, implicit_without_meta, deflated, big_endian]
)
def test_old_and_odd_files_are_read_like_any_other(change: Callable[[bytes], bytes]) -> None:
    instances, findings = read({"plain": small(), "odd": change(small(1, SOPInstanceUID="1.2.3.4.5"))})
    assert findings == [] or [finding.code for finding in findings] == ["DUPLICATE_POSITION"]
    instances, findings = read({"odd": change(small())})
    assert findings == []
    odd = instances["odd"]
    (plain,) = read({"plain": small()})[0].values()
    assert odd.header.as_dict() == plain.header.as_dict()
    assert odd.pixels is not None
    assert odd.source.read(odd.pixels.offset, odd.pixels.length) == bytes(range(24))


def test_offsets_of_a_deflated_file_hold_in_its_source_and_any_reader_understands_it() -> None:
    from pydicom import dcmread

    (instance,) = read({"deflated": deflated(b"")})[0].values()
    assert isinstance(instance.source, InflatedSource)
    assert instance.transfer_syntax == "1.2.840.10008.1.2.1"
    assert dcmread(_file(instance.source.read())).PixelData == bytes(range(24))
    assert instance.source.size() == len(instance.source.read())
    assert instance.source.read(140, 7) == instance.source.read()[140:147]


def test_a_deflated_file_that_inflates_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medmtl.data.dicom.files.LARGEST_INFLATED", 1 << 20)
    bomb = small(syntax=DeflatedExplicitVRLittleEndian, PixelData=bytes(3 << 20), Rows=1024, Columns=1536)
    assert len(bomb) < 10_000
    _, finding = fault(bomb)
    assert (finding.code, finding.severity) == ("UNDECODABLE", "error")


def test_a_deflated_file_that_is_broken_is_named() -> None:
    data = bytearray(deflated(b""))
    data[-60:-30] = b"\xff" * 30
    instances, findings = read({"bad.dcm": bytes(data)})
    assert {finding.where for finding in findings} == {"bad.dcm"}
    assert "error" in {finding.severity for finding in findings}
    assert all(instance.pixels is None for instance in instances.values())


# --------------------------------------------------------------------------------------------------- copies


def test_a_copy_is_dropped_and_said() -> None:
    instances, (finding,) = read({"2": small(1), "1": small(1), "3": small(3)})
    assert sorted(instances) == ["1", "3"]
    assert (finding.code, finding.severity, finding.where) == ("DUPLICATE_POSITION", "info", "2")


def test_a_copy_that_breaks_off_is_dropped_for_the_whole_one() -> None:
    instances, findings = read({"1": small(1)[:-4], "2": small(1)})
    assert [label for label, instance in instances.items() if instance.pixels is not None] == ["2"]
    assert len(instances) == 1
    assert {finding.code for finding in findings} == {"TRUNCATED", "DUPLICATE_POSITION"}


def test_files_of_one_uid_at_one_place_with_different_pixels_contradict_and_both_are_kept() -> None:
    instances, (finding,) = read({"1": small(1), "2": small(1, PixelData=b"\7" * 24), "3": small(3)})
    assert sorted(instances) == ["1", "2", "3"]
    assert (finding.code, finding.severity, finding.where) == ("DUPLICATE_POSITION", "error", "1")
    assert "1, 2 bear one SOPInstanceUID" in finding.message


def test_files_of_one_uid_at_different_places_are_kept_and_said() -> None:
    same = {"SOPInstanceUID": "1.2.3.4.5"}
    instances, (finding,) = read({str(n): small(n, **same) for n in range(5)})
    assert len(instances) == 5
    assert (finding.code, finding.severity) == ("DUPLICATE_POSITION", "info")
    assert finding.message.startswith("5 files are of different places")


def test_of_one_image_in_two_encodings_the_plain_one_is_kept() -> None:
    instances, (finding,) = read(
        {name: (SHIPPED / f"{name}.dcm").read_bytes() for name in ("MR_small_RLE", "MR_small_implicit")}
    )
    assert list(instances) == ["MR_small_implicit"]
    assert (finding.code, finding.severity, finding.where) == ("DUPLICATE_POSITION", "info", "MR_small_RLE")


def test_the_order_of_the_files_changes_nothing() -> None:
    files = {str(n): small(n % 7, PixelData=bytes([n // 9]) * 24) for n in range(20)}
    one, other = read(files), read(dict(reversed(files.items())))
    assert list(one[0]) == list(other[0])
    assert one[1] == other[1]


# ------------------------------------------------------------------------------------------------- a series


def test_headers_of_a_series_share_what_is_equal() -> None:
    instances, _ = read({f"{n:02}": small(n) for n in range(30)})
    first, *others = instances.values()
    shared = {id(other.header.layers[1]) for other in others}
    assert shared == {id(first.header.layers[0])}
    own = {keyword for other in others for keyword in other.header.layers[0]}
    assert own == {"SOPInstanceUID", "InstanceNumber", "ImagePositionPatient"}


def test_what_headers_share_is_never_anothers_value() -> None:
    varied = [{"TriggerTime": str(n % 3), "EchoTime": None if n % 2 else "4.6"} for n in range(12)]
    files = {
        f"{n:02}": small(n, **{k: v for k, v in values.items() if v is not None})
        for n, values in enumerate(varied)
    }
    instances, _ = read(files)
    for n, instance in enumerate(instances.values()):
        alone = read({"alone": files[f"{n:02}"]})[0]["alone"]
        assert instance.header.as_dict() == alone.header.as_dict()


def test_files_that_take_long_to_arrive_are_waited_for_together() -> None:
    import threading
    import time

    waiting: list[int] = []
    at_once = 0

    class Slow(Memory):
        def read(self, offset: int = 0, length: int | None = None) -> bytes:
            nonlocal at_once
            waiting.append(1)
            at_once = max(at_once, len(waiting))
            time.sleep(0.004)
            waiting.pop()
            return super().read(offset, length)

    files = {f"{n:03}": small(n) for n in range(60)}
    instances, findings = read_instances([Slow(data, label) for label, data in files.items()])
    assert [instance.source.label for instance in instances] == list(files)
    assert findings == []
    assert at_once > 2
    assert threading.active_count() < 8


def test_patients_do_not_reach_any_message_or_log(caplog: pytest.LogCaptureFixture) -> None:
    data = small(PatientName="Doe^Jane", PatientID="P-17")
    files = {
        "1": data[:-3],
        "2": data[:-9],
        "3": small(4, PixelData=None),
        "4.dcm": data[150:],
        "5": data[:420],
    }
    _, findings = read(files)
    text = repr(findings) + caplog.text
    assert "Doe" not in text
    assert "P-17" not in text


def _file(data: bytes) -> Any:
    from io import BytesIO

    return BytesIO(data)
