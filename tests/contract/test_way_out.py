"""The way out leads to the configured addresses only, whatever an event, an envelope or an answer says."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from builders import envelope
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import load
from tasks import routing
from tasks.action import Request
from tasks.actions import ACTIONS
from tasks.addresses import Allowed
from tasks.destinations import destinations
from tasks.destinations.encharge import Encharge
from tasks.destinations.http import Http
from tasks.errors import DestinationRejected, MappingFailed
from tasks.webhooks import Webhook

INTERNAL = "http://169.254.169.254/latest/meta-data"
HOSTILE = (
    *(INTERNAL, "//internal.example.com/", "@internal.example.com", ":80/", "\\\\internal.example.com", "../../../x"),
    *("\r\nHost: internal.example.com", "?x#y", "%2f%2finternal", "\x00", "file:///etc/passwd", "[::1]", "\ud800"),
)
VALUES = st.sampled_from(HOSTILE) | st.text(max_size=20)
ADDRESSES = (
    *("https://ingest.example.com:8443/v1/", "https://api.example.com:8444/v1", "https://crm.example.com:8445/hook"),
    *("https://activatepro.example.com:8446", "https://segment.example.com:8447/v1"),
)
NOW = "2026-01-02T03:04:05Z"


HEADERS = {
    *("(the key)", "application/json", "event-router", "gzip", "1"),
    *("(the time of sending)", "v1,(the signature)"),
}


def where(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


@settings(max_examples=15)
@given(values=st.lists(VALUES, min_size=40, max_size=40), objects=st.dictionaries(VALUES, VALUES, max_size=3))
def test_no_field_chooses_the_address(values: list[str], objects: dict[str, str]) -> None:
    """Scheme, host and port of every action's requests are the settings'; headers hold nothing of an event."""
    configured = load(
        {
            "ENCHARGE_INGEST_URL": ADDRESSES[0],
            "ENCHARGE_API_URL": ADDRESSES[1],
            "ENCHARGE_WRITE_KEY": "key",
            "ACTIVATEPRO_URL": ADDRESSES[3],
            "SEGMENT_URL": ADDRESSES[4],
        }
    )
    known = destinations(configured, {"crm": Webhook(ADDRESSES[2], ("CRM_SECRET",), Allowed())})
    reached = set()
    for action in ACTIONS.values():
        given_values = iter(values)
        fields: dict[str, Any] = {}
        for name, field in action.fields.items():
            text = field.choices[0] if field.choices else next(given_values)
            person = {"email": text, "userId": text, **objects}
            fields[name] = {"string": text, "object": person, "boolean": True}[field.kind]
        # What else would be refused before there is a request.
        fields |= {name: value for name, value in {"timestamp": NOW, "to": "crm"}.items() if name in fields}
        try:
            requests = action.requests(fields)
        except MappingFailed:
            continue
        for request in requests:
            shown = known[request.destination].shown(request)
            reached.add(request.destination)
            assert where(shown["url"]) in {where(address) for address in ADDRESSES}
            id_ = shown["headers"].pop("webhook-id", "msg_0")
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id_)
            assert set(shown["headers"].values()) <= HEADERS
            assert request.method in {"POST", "DELETE"}
    assert {"activatepro", "segment", "webhook-crm"} <= reached


def test_bug_half_a_character_in_a_query_came_back_until_it_was_poison() -> None:
    """A lone surrogate in an address cannot be written into a URL; showing the failed request raised again."""
    request = Request("encharge_api", "DELETE", "/people", query=(("people[0][email]", "\ud800@example.com"),))
    http = Http(connect_timeout_s=1, read_timeout_s=1, connections=1)
    assert Encharge(http, ADDRESSES[1], "key").shown(request)["url"].endswith("=%3F%40example.com")


@pytest.mark.parametrize("path", ["@internal.example.com/", ":8000/", "internal", ".example.com/"])
def test_a_path_cannot_become_a_host(path: str) -> None:
    """A handler's path begins with a slash; else it would go on where the host's name ends."""
    http = Http(connect_timeout_s=1, read_timeout_s=1, connections=1)
    with pytest.raises(ValueError, match="slash"):
        Encharge(http, "https://api.example.com", "key").shown(Request("encharge_api", "GET", path))


def test_a_published_event_that_looks_like_a_request() -> None:
    """url, host, method and headers in an event or envelope are nothing but its data."""
    routes = routing.Routes(())
    assert not routes.match(envelope(event={"url": INTERNAL}))
    data = {"name": INTERNAL, "user": {"email": "a@example.com", "url": INTERNAL}, "properties": {"host": "x"}}
    (request,) = ACTIONS["forward_event"].requests(data)
    assert (request.destination, request.method, request.path, request.query) == ("encharge_ingest", "POST", "", ())


class Answers(BaseHTTPRequestHandler):
    """Redirects everybody to `to`; counts who came."""

    came: list[str]
    to = ""

    def do_POST(self) -> None:
        self.came.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(307 if self.to else 200)
        self.send_header("Location", self.to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


def served(to: str) -> Iterator[tuple[str, list[str]]]:
    came: list[str] = []
    with HTTPServer(("127.0.0.1", 0), type("Handler", (Answers,), {"came": came, "to": to})) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", came
        server.shutdown()


@pytest.fixture
def internal() -> Iterator[tuple[str, list[str]]]:
    yield from served("")


@pytest.fixture
def redirecting(internal: tuple[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
    yield from served(f"{internal[0]}/internal")


def test_redirects_are_not_followed(internal: tuple[str, list[str]], redirecting: tuple[str, list[str]]) -> None:
    """A destination cannot send us on to an address of our own network: 3xx is a refusal."""
    http = Http(connect_timeout_s=2, read_timeout_s=2, connections=1)
    with pytest.raises(DestinationRejected):
        Encharge(http, f"{redirecting[0]}/v1/", "key").send(Request("encharge_ingest", "POST", "", {"name": "x"}))
    assert redirecting[1] == ["/v1/"]
    assert internal[1] == []


def test_the_environment_is_asked_once_and_gives_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies are the operator's choice, per address, at the start; a .netrc is not looked at when sending."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "internal.example.com")
    http = Http(connect_timeout_s=1, read_timeout_s=1, connections=1)
    assert http.environment_of("https://api.example.com")["proxies"]["https"] == "http://proxy.example.com:3128"
    assert "https" not in http.environment_of("https://internal.example.com")["proxies"]
    assert http._session.trust_env is False
