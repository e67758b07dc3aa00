"""A conversation with a DICOMweb service: credentials, verified TLS, timeouts, new tries after a pause."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from medmtl.data.dicom.web.address import Address
from medmtl.data.dicom.web.failures import MultipartError, failure_of
from medmtl.types import CaseError, ConfigError

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from requests import PreparedRequest, Request, Session

LOG = logging.getLogger("medmtl.pacs")
USER, PASSWORD, TOKEN = "MEDMTL_DICOMWEB_USER", "MEDMTL_DICOMWEB_PASSWORD", "MEDMTL_DICOMWEB_TOKEN"

T = TypeVar("T")
Check = Callable[[], None]
"""Called often; raises where the work has to stop."""


@dataclass(frozen=True)
class Patience:
    """How long to wait, and how often to try.

    Attributes:
        connect_s: seconds until a connection stands.
        read_s: seconds without a byte.
        tries: of each request, the first one included.
        pause_s: seconds before the second try; doubled for each that follows, with some chance added.
        longest_pause_s: seconds, whatever the server asks for.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    tries: int = 4
    pause_s: float = 1.0
    longest_pause_s: float = 60.0


class Server:
    """One DICOMweb service; use it as a context, in one thread.

    Args:
        address: whose service it is.
        patience: timeouts and tries.
        check: called before each try, while waiting and while data come in.

    Raises:
        ConfigError: dicomweb-client is not installed, or only half of the credentials are there.
    """

    def __init__(
        self, address: Address, patience: Patience | None = None, check: Check | None = None
    ) -> None:
        try:
            from dicomweb_client import DICOMwebClient
        except ImportError as error:
            raise ConfigError(
                'a PACS needs dicomweb-client; install it with pip install "medmtl[pacs]"'
            ) from error
        self.address = address
        self.patience = patience if patience is not None else Patience()
        self.check: Check = check if check is not None else _go_on
        self.session = _session(address)
        self.timeout = (self.patience.connect_s, self.patience.read_s)
        self.client: DICOMwebClient = DICOMwebClient(
            address.service, session=self.session, permissive_uid=True, timeout=self.timeout
        )
        self.client.set_http_retry_params(retry=False)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def ask(self, what: str, request: Callable[[], T]) -> T:
        """The result of a request, tried again while the reason of its failure may pass.

        Args:
            what: what is done, for messages: "searching for studies".
            request: does it; may be called several times.

        Raises:
            CaseError: with a code of `medmtl.data.dicom.web.failures`, and a sentence.
        """
        from requests import RequestException

        for attempt in range(1, self.patience.tries + 1):
            self.check()
            try:
                return request()
            except (RequestException, MultipartError) as error:
                failure = failure_of(error, f"{self.address.host}: {what}")
            if not failure.may_pass or attempt == self.patience.tries:
                tries = f" (tried {attempt} times)" if attempt > 1 else ""
                raise CaseError(failure.code, f"{failure.message}{tries}; {failure.remedy}") from None
            pause = max(
                self.patience.pause_s * 2 ** (attempt - 1) * random.uniform(1.0, 1.5), failure.retry_after_s
            )
            LOG.info("%s; once more in %.1f s", failure.message, pause)
            self._wait(min(pause, self.patience.longest_pause_s))
        raise AssertionError("patience has at least one try")

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.5))


def _go_on() -> None:
    """Nothing to stop for."""


def _session(address: Address) -> Session:
    """A session that verifies TLS (by ``REQUESTS_CA_BUNDLE`` where set) and knows the credentials."""
    from requests import Session

    class OnePlace(Session):
        """Takes the host from the URL only, so that a redirect does not carry another one's name."""

        def prepare_request(self, request: Request) -> PreparedRequest:
            request.headers = {k: v for k, v in (request.headers or {}).items() if k != "Host"}
            return super().prepare_request(request)

    session = OnePlace()
    user, password, token = (os.environ.get(name) for name in (USER, PASSWORD, TOKEN))
    if token:
        session.auth = _Bearer(token)
    elif user and password is not None:
        session.auth = (user, password)
    elif user or password:
        raise ConfigError(f"{USER} and {PASSWORD} must be set both, or neither (then ~/.netrc is looked at)")
    if session.auth and address.service.startswith("http://") and not _is_here(address.host):
        LOG.warning(
            "%s: password or token travel unencrypted; use dicomweb+https:// where you can", address.host
        )
    return session


def _is_here(host: str) -> bool:
    return host.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]") or host in (
        "localhost",
        "127.0.0.1",
        "[::1]",
    )


@dataclass(frozen=True)
class _Bearer:
    """Puts a token into the header that requests drops when it is led to another host."""

    token: str

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request

    def __repr__(self) -> str:
        return "_Bearer(...)"
