"""A PACS that refuses, breaks off, hangs or lies: one sentence and a code each, over real sockets."""

from __future__ import annotations

import ssl
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from medmtl.data.dicom.web import Patience, Server, fetched_study, parse_address, store_files
from medmtl.data.dicom.web.multipart import write_parts
from medmtl.data.dicom.web.search import find_series, find_studies
from medmtl.types import CaseError, ConfigError
from tests.helpers import dicomweb
from tests.helpers.dicomweb import STUDY, Fault, Service, body, drip, drop_at, hang, serving, status
from tests.helpers.small_dicom import small

QUICK = Patience(connect_s=2.0, read_s=0.3, tries=3, pause_s=0.01, longest_pause_s=0.2)
FILES = [small(number) for number in range(1, 6)]


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", "/nowhere")
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MEDMTL_DICOMWEB_{name}", raising=False)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service(list(FILES))) as found:
        yield found


def fetch(service: Service, patience: Patience = QUICK) -> list[bytes]:
    address = parse_address(service.address).of_study(STUDY)
    with fetched_study(address, patience=patience) as (folder, _):
        return [path.read_bytes() for path in sorted(folder.rglob("*.dcm"))]


def refusal(service: Service) -> CaseError:
    with pytest.raises(CaseError) as caught:
        fetch(service)
    assert str(caught.value).startswith(f"127.0.0.1:{service.port}: ")
    assert "\n" not in str(caught.value)
    return caught.value


PASSING: dict[str, Fault] = {
    "500": status(500),
    "502": status(502),
    "503 with Retry-After": status(503, Retry_After="3600"),
    "429": status(429),
    "nothing": hang(0.0),
    "hangs": hang(0.5),
    "breaks off": drop_at(0.6),
    "breaks off in silence": drop_at(0.6, said=False),
    "lacks the last boundary": drop_at(0.99, said=False),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_what_may_pass_is_tried_again_and_the_study_is_whole(service: Service, fault: Fault) -> None:
    service.faults["data"] = [fault, fault]
    assert fetch(service) == FILES
    assert service.asked.count("data") == 3


CODES = {
    "500": "PACS_FAILED",
    "502": "PACS_FAILED",
    "503 with Retry-After": "PACS_FAILED",
    "429": "PACS_FAILED",
    "nothing": "PACS_UNREACHABLE",
    "hangs": "PACS_TIMEOUT",
    "breaks off": "PACS_INCOMPLETE",
    "breaks off in silence": "PACS_INCOMPLETE",
    "lacks the last boundary": "PACS_INCOMPLETE",
}


@pytest.mark.parametrize("name", CODES)
def test_what_does_not_pass_ends_with_its_code(service: Service, name: str) -> None:
    service.faults["data"] = [PASSING[name]] * 9
    error = refusal(service)
    assert error.code == CODES[name]
    assert "tried 3 times" in str(error)
    assert service.asked.count("data") == QUICK.tries


@pytest.mark.parametrize(
    ("code", "expected"),
    [(401, "PACS_DENIED"), (403, "PACS_DENIED"), (404, "PACS_NOT_FOUND"), (410, "PACS_NOT_FOUND")],
)
@pytest.mark.parametrize("kind", ["series", "data"])
def test_what_cannot_pass_is_not_tried_again(service: Service, kind: str, code: int, expected: str) -> None:
    service.faults[kind] = [status(code)] * 9
    assert refusal(service).code == expected
    assert service.asked.count(kind) == 1


def test_fewer_files_than_listed_are_not_taken_for_a_whole_series(service: Service) -> None:
    short = Service(FILES[:3]).multipart()
    service.faults["data"] = [body(short, dicomweb.MULTIPART)] * 9
    assert refusal(service).code == "PACS_INCOMPLETE"


@pytest.mark.parametrize("kind", ["search", "series"])
def test_a_page_of_html_is_no_dicomweb(service: Service, kind: str) -> None:
    service.faults[kind] = [body(b"<html>Welcome</html>", "text/html")] * 9
    ask = {
        "search": lambda server: list(find_studies(server)),
        "series": lambda server: find_series(server, STUDY),
    }
    with (
        Server(parse_address(service.address), QUICK) as server,
        pytest.raises(CaseError, match="no DICOM JSON; check the path") as caught,
    ):
        ask[kind](server)
    assert caught.value.code == "PACS_FAILED"


def test_a_search_ends_where_a_service_ignores_the_offset(service: Service) -> None:
    page = b'[{"0020000D": {"vr": "UI", "Value": ["1.2.3.1"]}}, {"0020000D": {"vr": "UI", "Value": ["1.2"]}}]'
    service.faults["search"] = [body(page, "application/dicom+json")] * 9
    with Server(parse_address(service.address), QUICK) as server:
        assert list(find_studies(server)) == ["1.2.3.1", "1.2"]
    assert service.asked.count("search") == 2


def test_a_uid_that_would_lead_elsewhere_is_not_asked_for(service: Service) -> None:
    page = b'[{"0020000D": {"vr": "UI", "Value": ["../../system"]}}]'
    service.faults["search"] = [body(page, "application/dicom+json")]
    with (
        pytest.raises(CaseError, match="no valid UID"),
        Server(parse_address(service.address), QUICK) as server,
    ):
        list(find_studies(server))


def test_a_service_that_knows_no_star_is_asked_for_explicit_little_endian(service: Service) -> None:
    service.faults["data"] = [status(406)]
    assert fetch(service) == FILES
    assert "transfer-syntax" not in service.headers["Accept"]


def test_a_deadline_ends_a_series_that_drips(service: Service) -> None:
    service.faults["data"] = [drip(5.0)]
    until = time.monotonic() + 0.6

    def check() -> None:
        if time.monotonic() > until:
            raise CaseError("TIMEOUT", "took longer than it may")

    address = parse_address(service.address).of_study(STUDY)
    with (
        pytest.raises(CaseError, match="longer than it may"),
        fetched_study(address, patience=Patience(read_s=0.5, tries=9, pause_s=0.1), check=check),
    ):
        pass
    assert time.monotonic() < until + 1.5


def test_a_large_series_never_lies_in_memory(service: Service) -> None:
    service.files = [bytes(40_000_000), bytes(100)]
    address = parse_address(service.address).of_study(STUDY)
    sent = service.multipart()
    service.multipart = lambda: sent  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        with fetched_study(address, patience=Patience()) as (folder, _):
            sizes = [path.stat().st_size for path in sorted(folder.rglob("*.dcm"))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [40_000_000, 100]
    assert peak < 12_000_000


def test_a_store_says_why_an_object_was_refused(service: Service, tmp_path: Path) -> None:
    (tmp_path / "segmentation.dcm").write_bytes(FILES[0])
    answer = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [43264]}}]}}'
    for code in (200, 202, 409):
        service.faults["store"] = [body(answer, "application/dicom+json", code)]
        with (
            pytest.raises(
                CaseError, match=r"segmentation\.dcm: it does not match its class \(A900\)"
            ) as caught,
            Server(parse_address(service.address), QUICK) as server,
        ):
            store_files(server, [tmp_path / "segmentation.dcm"])
        assert caught.value.code == "PACS_REJECTED"


def test_a_store_is_tried_again_with_the_whole_file(service: Service, tmp_path: Path) -> None:
    (tmp_path / "segmentation.dcm").write_bytes(FILES[0])
    service.faults["store"] = [status(503)]
    with Server(parse_address(service.address), QUICK) as server:
        store_files(server, [tmp_path / "segmentation.dcm"])
    assert service.asked == ["store", "store"]
    assert int(service.headers["Content-Length"]) > len(FILES[0])


def test_a_token_goes_along_and_not_to_another_host(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDMTL_DICOMWEB_TOKEN", "secret-token")
    with serving(Service(list(FILES))) as other:
        elsewhere = f"http://localhost:{other.port}/dw/studies/{STUDY}/series/1.2.3.2"
        service.faults["data"] = [status(302, Location=elsewhere)]
        assert fetch(service) == FILES
        assert service.headers["Authorization"] == "Bearer secret-token"
        assert other.asked == ["data"]
        assert "Authorization" not in other.headers


def test_half_of_the_credentials_is_an_error(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDMTL_DICOMWEB_USER", "reader")
    with pytest.raises(ConfigError, match="MEDMTL_DICOMWEB_PASSWORD must be set both"):
        fetch(service)


def certificate(folder: Path) -> Path:
    """A certificate for localhost that nobody signed but itself, with its key."""
    made = folder / "own.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(made), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    made.write_text(made.read_text() + (folder / "cert.pem").read_text())
    return made


def test_tls_is_verified_and_an_authority_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with serving(Service(list(FILES)), tls=context) as service:
        address = parse_address(f"dicomweb+https://localhost:{service.port}/dw").of_study(STUDY)
        with (
            pytest.raises(CaseError, match=r"TLS certificate cannot be verified; name .* REQUESTS_CA_BUNDLE"),
            fetched_study(address, patience=QUICK),
        ):
            pass
        assert service.asked == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        with fetched_study(address, patience=QUICK) as (folder, _):
            assert len(list(folder.rglob("*.dcm"))) == len(FILES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dicomweb+http://reader:pass-word@host/x", "MEDMTL_DICOMWEB_USER"),
        ("dicomweb+http://host/x?PatientID=17", "cannot be chosen by PatientID"),
        ("dicomweb+http://host/x?PatientName=Doe", "cannot be chosen by PatientName"),
        ("dicomweb+http://host/x?StudyDat=20200101", "did you mean 'StudyDate'"),
        ("dicomweb+http://host/x?StudyInstanceUID=1.2/../3", "no StudyInstanceUID"),
        ("dicomweb+http://host/x?StudyDate=", "with a value"),
        ("dicomweb+http://host:99999/x", "no host"),
        ("dicomweb+ftp://host/x", "begins with dicomweb"),
        ("dicomweb+https://", "begins with dicomweb"),
    ],
)
def test_an_address_that_cannot_be_used_says_why(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_address(text)
    assert "pass-word" not in str(caught.value)


def test_an_address_survives_being_a_path_and_being_written() -> None:
    address = parse_address(Path("dicomweb+https://pacs.example:8443/dw/?StudyDate=20200101-20201231"))
    assert address.service == "https://pacs.example:8443/dw"
    assert parse_address(str(address)) == address
    assert str(address.of_study("1.2.3")) == "dicomweb+https://pacs.example:8443/dw?StudyInstanceUID=1.2.3"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_parts_are_found_wherever_chunks_are_cut(tmp_path: Path, size: int) -> None:
    parts = [b"", b"\r\n--limi", b"a\r\n\r\nb", b"--limit--", b"\r\n" * 40]
    sent = b"preamble\r\n" + b"".join(b"--limit\r\nX: y\r\n\r\n" + part + b"\r\n" for part in parts)
    sent += b"--limit--\r\nepilogue"
    chunks = [sent[at : at + size] for at in range(0, len(sent), size)]
    files = write_parts(chunks, b"limit", tmp_path)
    assert [file.read_bytes() for file in files] == parts
