"""Every way out keeps the same manners: what an answer means, how long it waits, what it tells and what it does not."""

import base64
import gzip
import time
import traceback
import tracemalloc
from collections.abc import Iterator
from typing import Any, Final

import pytest
from peer import OK, Came, Peer, Reply, serving

from config.settings import load
from tasks.action import Request
from tasks.addresses import Allowed
from tasks.destinations import DESTINATIONS, Destination, destinations
from tasks.errors import (
    DestinationRejected,
    DestinationThrottled,
    DestinationUnauthorized,
    DestinationUnavailable,
    RouterError,
)
from tasks.webhooks import Webhook

KEYS: Final = {
    "ENCHARGE_WRITE_KEY": "write-key-5e77a1c0",
    "ENCHARGE_API_KEY": "api-key-91bd33f2",
    "ACTIVATEPRO_TOKEN": "token-c4d5e6f7",
    "SEGMENT_WRITE_KEY": "segment-key-0badcafe",
}
SIGNING: Final = b"signing-key-7a7a7a7a-1c1c1c1c"
PERSON: Final = "marker.person@example.com"
EVENT: Final = {"type": "track", "event": "Order", "userId": PERSON}
REQUESTS: Final = {
    "encharge_ingest": Request("encharge_ingest", "POST", "", {"name": "Order", "user": {"email": PERSON}}),
    "encharge_api": Request("encharge_api", "DELETE", "/people", query=(("people[0][email]", PERSON),)),
    "activatepro": Request("activatepro", "POST", "/events", {"email": PERSON, "events": [{"event": "Order"}]}),
    "segment": Request("segment", "POST", "", EVENT),
    "webhook-crm": Request("webhook-crm", "POST", "", {"type": "order", "data": {"email": PERSON}}, id="e1"),
}
PATHS: Final = {
    "encharge_ingest": "/ingest/v1/",
    "encharge_api": "/api/v1/people?people%5B0%5D%5Bemail%5D=marker.person%40example.com",
    "activatepro": "/events",
    "segment": "/v1/batch",
    "webhook-crm": "/hook?tenant=1",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Peer]:
    """One for all: to stop it takes longer than a test."""
    with serving() as found:
        yield found


@pytest.fixture
def peer(server: Peer) -> Peer:
    server.came.clear()
    server.answer = lambda _: OK
    return server


@pytest.fixture(params=REQUESTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def destination(name: str, peer: Peer) -> Destination:
    return reached(peer.url)[name]


def reached(url: str, *, patience_s: float = 2) -> dict[str, Destination]:
    """All of them, at one address."""
    environ = {
        **KEYS,
        "ENCHARGE_INGEST_URL": f"{url}/ingest/v1/",
        "ENCHARGE_API_URL": f"{url}/api/v1",
        "ACTIVATEPRO_URL": url,
        "SEGMENT_URL": f"{url}/v1",
        "HTTP_READ_TIMEOUT_S": str(patience_s),
    }
    hook = Webhook(f"{url}/hook?tenant=1", ("CRM_SECRET",), Allowed.of(["127.0.0.1"]))
    return destinations(load(environ), {"crm": hook}, {"crm": (SIGNING,)})


def failure(destination: Destination, name: str) -> RouterError:
    with pytest.raises(RouterError) as caught:
        destination.send(REQUESTS[name])
    return caught.value


def test_all_are_tested(peer: Peer) -> None:
    """A new destination needs a request here."""
    assert reached(peer.url).keys() == REQUESTS.keys() == PATHS.keys() == {*DESTINATIONS, "webhook-crm"}


@pytest.mark.parametrize("status", [200, 202, 204])
def test_taken(destination: Destination, name: str, peer: Peer, status: int) -> None:
    """Any 2xx is done; what arrived is what is shown, but for what is secret or of the moment."""
    peer.answer = lambda _: Reply(status, b"" if status == 204 else b"ok", {"X-Request-ID": "r-1"})

    response = destination.send(REQUESTS[name])

    assert (response.status, response.headers["X-Request-ID"]) == (status, "r-1")
    (came,) = peer.came
    shown = destination.shown(REQUESTS[name])
    assert (came.method, came.path) == (shown["method"], PATHS[name])
    assert shown["url"] == peer.url + PATHS[name].replace("tenant=1", "…")
    assert {key for key, value in shown["headers"].items() if came.headers[key] != value} <= {
        *("X-Encharge-Token", "X-XNG-AuthToken", "Authorization", "webhook-timestamp", "webhook-signature")
    }
    if name == "encharge_api":
        assert (came.body, shown["body"]) == (b"", None)
    else:
        assert {**came.json, "sentAt": ""} == {**shown["body"], "sentAt": ""}


def test_the_key_goes_along(destination: Destination, name: str, peer: Peer) -> None:
    """Each in its own way."""
    destination.send(REQUESTS[name])

    headers = peer.came[0].headers
    basic = base64.b64encode(f"{KEYS['SEGMENT_WRITE_KEY']}:".encode()).decode()
    assert {
        "encharge_ingest": headers.get("X-Encharge-Token") == KEYS["ENCHARGE_WRITE_KEY"],
        "encharge_api": headers.get("X-Encharge-Token") == KEYS["ENCHARGE_API_KEY"],
        "activatepro": headers.get("X-XNG-AuthToken") == KEYS["ACTIVATEPRO_TOKEN"]
        and headers.get("X-XNG-ApiVersion") == "1",
        "segment": headers.get("Authorization") == f"Basic {basic}",
        "webhook-crm": headers.get("webhook-signature", "").startswith("v1,"),
    }[name]


@pytest.mark.parametrize(
    ("reply", "error", "retry_after_s"),
    [
        (Reply(400), DestinationRejected, None),
        (Reply(401), DestinationUnauthorized, None),
        (Reply(403), DestinationUnauthorized, None),
        (Reply(404), DestinationRejected, None),
        (Reply(408), DestinationUnavailable, None),
        (Reply(410), DestinationRejected, None),
        (Reply(429), DestinationThrottled, None),
        (Reply(429, headers={"Retry-After": "7"}), DestinationThrottled, 7),
        (Reply(500), DestinationUnavailable, None),
        (Reply(501), DestinationRejected, None),
        (Reply(502), DestinationUnavailable, None),
        (Reply(503, headers={"Retry-After": "7"}), DestinationUnavailable, 7),
        (Reply(504), DestinationUnavailable, None),
    ],
)
def test_refused(
    destination: Destination,
    name: str,
    peer: Peer,
    reply: Reply,
    error: type[RouterError],
    retry_after_s: float | None,
) -> None:
    """The status says whether it is worth another try; the answer is kept."""
    peer.answer = lambda _: reply

    found = failure(destination, name)

    assert type(found) is error
    assert found.response.status == reply.status
    assert getattr(found, "retry_after_s", None) == retry_after_s
    assert len(peer.came) == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [("hang", "timed out"), ("reset", "could not be reached"), ("drip", "drips"), ("drip_head", "timed out")],
)
def test_no_whole_answer(name: str, peer: Peer, kind: str, text: str) -> None:
    """It is tried again, and no thread waits longer than it may."""
    peer.answer = lambda _: Reply(kind=kind)

    found = failure(reached(peer.url, patience_s=0.15)[name], name)

    assert type(found) is DestinationUnavailable
    assert text in str(found)
    assert found.response is None


@pytest.mark.parametrize("chunked", [False, True])
def test_bug_an_answer_that_drips_was_waited_for_by_the_chunk(peer: Peer, chunked: bool) -> None:
    """8192 bytes, one at a time and each in time, could hold a thread for hours."""
    peer.answer = lambda _: Reply(kind="drip", headers={"Transfer-Encoding": "chunked"} if chunked else {})
    begun = time.monotonic()

    failure(reached(peer.url, patience_s=0.15)["segment"], "segment")

    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("coding", ["gzip", "identity", "chunked"])
def test_an_answer_is_read_as_it_is_coded(peer: Peer, coding: str) -> None:
    """Packed or in chunks, what is kept is the text."""
    body = b'{"success":true}'
    replies = {
        "gzip": Reply(200, gzip.compress(body), {"Content-Encoding": "gzip"}),
        "identity": Reply(200, body),
        "chunked": Reply(200, body, kind="chunked"),
    }
    peer.answer = lambda _: replies[coding]

    assert reached(peer.url)["segment"].send(REQUESTS["segment"]).body == body.decode()


def test_of_a_long_answer_the_beginning_is_kept(peer: Peer) -> None:
    """4 KiB; and the next request goes well."""
    peer.answer = lambda _: Reply(200, b"x" * 200_000)
    segment = reached(peer.url)["segment"]

    assert [segment.send(REQUESTS["segment"]).body for _ in range(2)] == ["x" * 4096] * 2


def test_nobody_there(name: str) -> None:
    """Refused connections are tried again."""
    with serving() as peer:
        url = peer.url

    assert type(failure(reached(url)[name], name)) is DestinationUnavailable


def test_redirects_are_not_followed(destination: Destination, name: str, peer: Peer) -> None:
    """Nobody sends us on to somewhere else."""
    peer.answer = lambda _: Reply(307, headers={"Location": f"{peer.url}/elsewhere"})

    assert type(failure(destination, name)) is DestinationRejected
    assert [came.path for came in peer.came] == [PATHS[name]]


def test_bug_an_answer_with_a_redirect_was_read_whole(peer: Peer) -> None:
    """However long it was, unpacked: requests looks where it leads, also when it must not go there."""
    packed = gzip.compress(bytes(8_000_000))
    peer.answer = lambda _: Reply(302, packed, {"Location": "/x", "Content-Encoding": "gzip"})
    segment = reached(peer.url)["segment"]
    tracemalloc.start()
    found = failure(segment, "segment")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert str(found) == "answered 302"
    assert most < 2_000_000


@pytest.mark.parametrize("location", ["http://[", "/\xff\xfe", "http://a:99999/x"])
def test_bug_a_redirect_to_nowhere_was_our_bug(peer: Peer, location: str) -> None:
    """It is an answer like another."""
    peer.answer = lambda _: Reply(302, headers={"Location": location})

    assert type(failure(reached(peer.url)["segment"], "segment")) is DestinationRejected


def test_bug_cookies_of_receivers_were_kept(peer: Peer) -> None:
    """Nobody is sent what he, or another at his name, has sent."""
    peer.answer = lambda _: Reply(headers={"Set-Cookie": "session=1; Path=/"})
    segment = reached(peer.url)["segment"]
    for _ in range(2):
        segment.send(REQUESTS["segment"])

    assert "Cookie" not in peer.came[1].headers


def test_bug_headers_of_an_answer_were_kept_whole(peer: Peer) -> None:
    """A dead letter has those that tell something, and not more of them than that."""
    others = {f"X-{number}": "x" * 60_000 for number in range(50)}
    peer.answer = lambda _: Reply(400, headers={**others, "Location": "y" * 60_000, "retry-after": "7"})

    headers = failure(reached(peer.url)["segment"], "segment").response.headers
    assert headers.keys() == {"Date", "Location", "Retry-After", "Server"}
    assert (headers["Location"], headers["Retry-After"]) == ("y" * 256, "7")


def echo(came: Came) -> Reply:
    """An answer that repeats all that it was told."""
    told = f"{came.headers} {came.body!r}".encode()
    return Reply(400, told)


@pytest.mark.parametrize("answer", [echo, lambda _: Reply(kind="reset"), lambda _: Reply(503)])
def test_no_secret_is_told(destination: Destination, name: str, peer: Peer, answer: Any) -> None:
    """Not by what is shown, nor by an error and its traceback; an error names no person either."""
    peer.answer = answer

    found = failure(destination, name)

    told = "".join(traceback.format_exception(found)) + repr(found) + repr(vars(destination).get("_http"))
    shown = str(destination.shown(REQUESTS[name]))
    secrets = [*KEYS.values(), SIGNING.decode(), base64.b64encode(SIGNING).decode()]
    secrets.append(base64.b64encode(f"{KEYS['SEGMENT_WRITE_KEY']}:".encode()).decode())
    assert [secret for secret in secrets if secret in told + shown] == []
    assert PERSON not in told


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"field":"event","type":"UNKNOWN_VALUE"}', "answered 400 (event: UNKNOWN_VALUE)"),
        (b'[{"field":"email","type":"WRONG_FORMAT"}]', "answered 400 (email: WRONG_FORMAT)"),
        (b'{"field":"events[0].timestamp","type":"marker.person@example.com"}', "answered 400"),
        (b'{"field":1,"type":["x"]}', "answered 400"),
        (b"[]", "answered 400"),
        (b"no JSON", "answered 400"),
    ],
)
def test_what_activatepro_says(peer: Peer, body: bytes, text: str) -> None:
    """Its refusals name a field and what is wrong with it; nothing that could be a value is repeated."""
    peer.answer = lambda _: Reply(400, body)

    assert str(failure(reached(peer.url)["activatepro"], "activatepro")) == text
