"""Why a request to a PACS failed: a code, a sentence, and whether it may help to ask again."""

from __future__ import annotations

from dataclasses import dataclass


class MultipartError(Exception):
    """A response whose parts do not end as they should."""


@dataclass(frozen=True)
class Failure:
    """One failed request.

    Attributes:
        code: a finding code, ``PACS_...``.
        message: what failed, and how.
        remedy: what to do.
        may_pass: whether the same request may succeed later.
        retry_after_s: seconds that the server asked to wait.
    """

    code: str
    message: str
    remedy: str
    may_pass: bool = True
    retry_after_s: float = 0.0


def failure_of(error: Exception, what: str) -> Failure:
    """Says what went wrong, without the words of libraries, which may hold addresses and credentials.

    Args:
        error: of requests, or `MultipartError`.
        what: host and what was asked, in front of the message.
    """
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return _of_status(error.response.status_code, error.response.headers.get("Retry-After", ""), what)
    if isinstance(error, exceptions.SSLError):
        remedy = "name the certificate authority of the hospital in REQUESTS_CA_BUNDLE"
        return Failure("PACS_UNREACHABLE", f"{what}: its TLS certificate cannot be verified", remedy, False)
    if isinstance(error, exceptions.Timeout) or "timed out" in str(error).lower():
        return Failure("PACS_TIMEOUT", f"{what}: no answer in time", "ask whether the server is overloaded")
    if isinstance(error, MultipartError | exceptions.ChunkedEncodingError | exceptions.ContentDecodingError):
        remedy = "run the same command again; what is done stays done"
        return Failure(
            "PACS_INCOMPLETE", f"{what}: the connection broke off in the middle of the data", remedy
        )
    if isinstance(error, exceptions.ConnectionError):
        remedy = "check host and port, and that the server runs"
        return Failure("PACS_UNREACHABLE", f"{what}: no connection", remedy)
    if isinstance(error, exceptions.JSONDecodeError):
        remedy = "check the path of the address"
        return Failure("PACS_FAILED", f"{what}: the answer is no DICOM JSON", remedy, False)
    return Failure("PACS_FAILED", f"{what}: {type(error).__name__}", "check the address", False)


def _of_status(status: int, retry_after: str, what: str) -> Failure:
    if status in (401, 403):
        remedy = "set MEDMTL_DICOMWEB_USER and MEDMTL_DICOMWEB_PASSWORD, or ..._TOKEN, or write ~/.netrc"
        return Failure("PACS_DENIED", f"{what}: access denied (HTTP {status})", remedy, False)
    if status in (404, 410):
        remedy = "check StudyInstanceUID and the path of the address"
        return Failure("PACS_NOT_FOUND", f"{what}: not there (HTTP {status})", remedy, False)
    message = f"{what}: the server answered HTTP {status}"
    if status in (408, 425, 429) or (status >= 500 and status not in (501, 505)):
        waited = float(retry_after) if retry_after.isdigit() else 0.0
        return Failure("PACS_FAILED", message, "look into its log, or try later", True, waited)
    return Failure("PACS_FAILED", message, "check that the address is that of a DICOMweb service", False)
