"""Webhooks as their receivers see them; and whom they never reach, whatever a name says."""

import base64
import ssl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme
from peer import Came, Peer, Reply, serving
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from tasks.action import Request
from tasks.addresses import Allowed
from tasks.destinations.guarded import Guard, Resolve, guarded, resolve
from tasks.destinations.http import Http
from tasks.destinations.webhook import Webhook
from tasks.errors import DestinationRejected, DestinationUnavailable

NEW, OLD = b"n" * 32, b"o" * 32
REQUEST = Request("webhook-crm", "POST", "", {"type": "order", "data": {"name": "Zoë \U0001f600"}}, id="e1:route")
HERE = Allowed.of(["127.0.0.1"])


@pytest.fixture
def peer() -> Iterator[Peer]:
    with serving() as found:
        yield found


def hook(url: str, *keys: bytes, allowed: Allowed = HERE, lookup: Resolve = resolve, **more: Any) -> Webhook:
    http = Http(connect_timeout_s=1, read_timeout_s=2, connections=2, made_by=guarded(Guard(allowed, lookup)))
    return Webhook(http, url, keys or (NEW,), **more)


def verified(came: Came, key: bytes) -> Any:
    """The body, when the receivers' library finds it signed with this key."""
    return Verifier("whsec_" + base64.b64encode(key).decode()).verify(came.body, dict(came.headers))


# --- signatures


def test_the_receivers_library_verifies_it(peer: Peer) -> None:
    """Headers and signature are those of Standard Webhooks; nothing else will do."""
    hook(peer.url).send(REQUEST)

    (came,) = peer.came
    assert verified(came, NEW) == REQUEST.body
    with pytest.raises(WebhookVerificationError):
        verified(came, OLD)


def test_while_secrets_change_both_sign(peer: Peer) -> None:
    """A receiver that knows only the old one, or only the new one, takes it."""
    hook(peer.url, NEW, OLD).send(REQUEST)

    assert [verified(peer.came[0], key) for key in (NEW, OLD)] == [REQUEST.body] * 2


def test_a_second_attempt_has_the_same_id_and_a_new_time(peer: Peer) -> None:
    """So receivers know it again, and still refuse what somebody repeats later."""
    times = iter([time.time(), time.time() + 60])
    peer.answer = lambda _: Reply(204)
    once, again = (hook(peer.url, now=lambda at=at: at) for at in times)

    once.send(REQUEST)
    again.send(REQUEST)

    first, second = (came.headers for came in peer.came)
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 60
    assert all(verified(came, NEW) for came in peer.came)


@pytest.mark.parametrize("id_", ["e1:route", "a.b", "x" * 65, "\r\nX-Evil: 1", "\ud800", "é", ""])
def test_no_id_breaks_headers_or_what_is_signed(peer: Peer, id_: str) -> None:
    """A sender's id may hold anything; a full stop in it could shift what the signature is over."""
    request = Request("webhook-crm", "POST", "", {"type": "x"}, id=id_)

    hook(peer.url).send(request)

    (came,) = peer.came
    assert came.headers["webhook-id"].startswith("msg_")
    assert "." not in came.headers["webhook-id"]
    assert "X-Evil" not in came.headers
    assert hook(peer.url).shown(request)["headers"]["webhook-id"] == came.headers["webhook-id"]


def test_bug_the_query_of_a_webhook_was_shown() -> None:
    """It may be all by which the receiver knows us."""
    request = Request("webhook-crm", "POST", "", {"type": "x"}, id="e1:a")

    assert hook("https://crm.example.com/events?token=abc").shown(request)["url"] == "https://crm.example.com/events?…"
    assert hook("https://crm.example.com/events").shown(request)["url"] == "https://crm.example.com/events"


def test_ids_differ(peer: Peer) -> None:
    """Two deliveries of one event are two webhooks; requests of a handler without ids are told apart by content."""
    to = hook(peer.url)
    for id_, body in (("e1:a", {"x": 1}), ("e1:b", {"x": 1}), ("plain-1", {"x": 1}), ("", {"x": 1}), ("", {"x": 2})):
        to.send(Request("webhook-crm", "POST", "", body, id=id_))

    ids = [came.headers["webhook-id"] for came in peer.came]
    assert len(set(ids)) == 5
    assert "plain-1" in ids


@pytest.mark.parametrize("more", [{"path": "/x"}, {"query": (("a", "b"),)}])
def test_a_handler_chooses_no_address(peer: Peer, more: dict[str, Any]) -> None:
    """A webhook is where the file says."""
    with pytest.raises(ValueError, match="has the address of the routes file"):
        hook(peer.url).send(Request("webhook-crm", "POST", **{"path": "", **more}))


# --- whom it reaches


class Names:
    """Looks names up in answers given before, one after another; the last stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    ("host", "what"),
    [("localhost", "loopback"), ("127.1", "loopback"), ("2130706433", "loopback"), ("0x7f.0.0.1", "loopback")],
)
def test_names_of_this_machine(peer: Peer, host: str, what: str) -> None:
    """However it is written: what the system makes of it is what is checked."""
    with pytest.raises(DestinationRejected, match=what):
        hook(f"http://{host}:{peer.port}/", allowed=Allowed()).send(REQUEST)

    assert peer.came == []


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["169.254.169.254"]],
)
def test_one_address_within_is_enough_to_refuse(addresses: list[str]) -> None:
    """Not even the public one is tried: such a name wants something else than webhooks."""
    names = Names(addresses)

    with pytest.raises(DestinationRejected, match=r"^not sent: the name leads to .*, which is ") as caught:
        hook("http://crm.example.com/", allowed=Allowed(), lookup=names).send(REQUEST)

    assert caught.value.response is None
    assert names.asked == ["crm.example.com"]


def test_a_name_that_leads_elsewhere_the_second_time() -> None:
    """DNS rebinding: the connection goes to the address that was checked, and each new one is checked again."""
    outside = Allowed.of(["127.0.0.2"])  # stands for the public internet
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    with serving("127.0.0.2") as public, serving("127.0.0.1", public.port) as internal:
        public.answer = lambda _: Reply(200, headers={"Connection": "close"})
        to = hook(f"http://crm.example.com:{public.port}/", allowed=outside, lookup=names)

        to.send(REQUEST)
        assert names.asked == ["crm.example.com"], "one look-up, for the check and the connection"
        with pytest.raises(DestinationRejected, match="loopback"):
            to.send(REQUEST)

    assert [came.headers["Host"] for came in public.came] == [f"crm.example.com:{public.port}"]
    assert internal.came == []


def test_the_next_address_is_tried(peer: Peer) -> None:
    """A name may have one that nobody answers at."""
    names = Names(["127.0.0.3", "127.0.0.1"])

    hook(f"http://crm.example.com:{peer.port}/", allowed=Allowed.of(["127.0.0.0/8"]), lookup=names).send(REQUEST)

    assert len(peer.came) == 1


@pytest.mark.parametrize("failure", [OSError("no such name"), None])
def test_a_name_that_leads_nowhere(failure: OSError | None) -> None:
    """Worth another try: it may be our name server."""

    def lookup(_host: str, _port: int) -> Sequence[str]:
        if failure:
            raise failure
        return []

    with pytest.raises(DestinationUnavailable):
        hook("http://crm.example.com/", lookup=lookup).send(REQUEST)


def test_no_proxy_of_the_environment(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look the name up by itself, and reach whom it likes."""
    with serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        hook(peer.url).send(REQUEST)

        assert (len(peer.came), len(proxy.came)) == (1, 0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize(("certified", "reached"), [("crm.example.com", True), ("other.example.com", False)])
def test_tls_asks_for_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, certified: str, reached: bool
) -> None:
    """Though the connection is made to an address: a certificate for another name is refused."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(certified).configure_cert(context)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with serving(tls=context) as peer:
        to = hook(f"https://crm.example.com:{peer.port}/", lookup=Names(["127.0.0.1"]))
        if reached:
            to.send(REQUEST)
        else:
            with pytest.raises(DestinationUnavailable):
                to.send(REQUEST)

    assert asked == ["crm.example.com"]
    assert len(peer.came) == reached
