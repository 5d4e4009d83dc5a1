"""One pooled HTTP session for the process, with time-outs, and the verdict on every answer."""

import codecs
import dataclasses
import time
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
import urllib3.exceptions

from tasks.destinations.connections import Adapter, Pools, pools
from tasks.errors import (
    DestinationRejected,
    DestinationThrottled,
    DestinationUnauthorized,
    DestinationUnavailable,
    RouterError,
)
from tasks.retry import retry_after_s

#: As much of an answer as a dead letter keeps.
KEPT_BODY: Final = 4096
#: As much of an answer as is read so that its connection can be used again.
_MOST_BODY: Final = 65536
#: The headers of an answer that are kept, and as much of each.
_KEPT_HEADERS: Final = ("Content-Type", "Date", "Location", "Retry-After", "Server", "X-Request-ID")
_MOST_OF_A_HEADER: Final = 256

_decoder: Final = codecs.getincrementaldecoder("utf-8")
_TRANSIENT_4XX: Final = frozenset({408, 423, 425})
_NOT_IMPLEMENTED: Final = 501
_THROTTLED: Final = 429


@dataclasses.dataclass(frozen=True)
class Response:
    """A destination's answer: the headers that say something about it, the body cut at 4 KiB."""

    status: int
    headers: Mapping[str, str]
    body: str


def verdict(response: Response, now: float) -> RouterError | None:
    """None for 2xx, else the error that the answer means. `now` is Unix time.

    Retried: 408, 423, 425, 429, and 5xx but 501, the list of Segment's destinations
    (github.com/segmentio/action-destinations, packages/core/src/errors.ts) and 425 of RFC 8470.
    """
    status = response.status
    if 200 <= status < 300:  # noqa: PLR2004
        return None
    text = f"answered {status}"
    if status == _THROTTLED:
        return DestinationThrottled(text, retry_after_s(response.headers, now))
    if status in _TRANSIENT_4XX or (status >= 500 and status != _NOT_IMPLEMENTED):  # noqa: PLR2004
        return DestinationUnavailable(text, retry_after_s(response.headers, now))
    return DestinationUnauthorized(text) if status in {401, 403} else DestinationRejected(text)


class _Session(requests.Session):
    """One that looks at no redirect, and takes no cookies.

    Told not to follow redirects, requests still makes the request that would be next: for that it reads the whole
    answer, however long, and fails on an address that is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_redirect_target(self, _: requests.Response) -> None:
        """There is none."""


def taken(response: Response, now: float) -> Response:
    """The answer, where it says that the request was taken. Raises the error that it means, with it as `response`."""
    error = verdict(response, now)
    if error is None:
        return response
    error.response = response
    raise error


class Http:
    """Sends requests over a pool of connections. Safe to share between threads."""

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        connections: int,
        made_by: Pools | None = None,
    ) -> None:
        """`made_by` makes the connections, where they are to be of another kind."""
        self._timeout = (connect_timeout_s, read_timeout_s)
        self._session = _Session()
        adapter = Adapter(connections, made_by or pools())
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    @staticmethod
    def environment_of(url: str) -> dict[str, Any]:
        """Proxies and certificates that the environment (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE) gives this address.

        Asked once for each destination: requests would look it up for every single request.
        """
        found = requests.Session().merge_environment_settings(url, {}, None, None, None)
        return {"proxies": dict(found["proxies"]), "verify": found["verify"], "cert": found["cert"]}

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        environment: Mapping[str, Any],
    ) -> Response:
        """One request, never redirected. Raises DestinationUnavailable when there is no whole answer in time."""
        try:
            with self._session.request(
                method,
                url,
                data=body,
                headers=dict(headers),
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
                **environment,
            ) as answer:
                content = _read(answer, time.monotonic() + self._timeout[1])
                return Response(answer.status_code, _kept(answer), _text(content))
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise DestinationUnavailable(f"timed out ({type(error).__name__})") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # ValueError: whatever the libraries stumble over in an answer.
            raise DestinationUnavailable(f"could not be reached ({type(error).__name__})") from None


def _text(content: bytes) -> str:
    """As much of the body as is kept, cut between two letters."""
    return _decoder("replace").decode(content[:KEPT_BODY], final=len(content) <= KEPT_BODY)


def _kept(answer: requests.Response) -> dict[str, str]:
    return {name: answer.headers[name][:_MOST_OF_A_HEADER] for name in _KEPT_HEADERS if name in answer.headers}


def _read(answer: requests.Response, deadline: float) -> bytes:
    # The read time-out runs between two bytes; a destination that drips its body must not hold a thread for ever.
    # Nor may a chunk be waited for until it is full: read1 gives what is there.
    content = b""
    while chunk := answer.raw.read1(8192, decode_content=True):
        content += chunk
        if time.monotonic() > deadline:
            answer.close()
            raise DestinationUnavailable("timed out (the answer drips)")
        if len(content) > _MOST_BODY:
            answer.close()
            break
    return content
