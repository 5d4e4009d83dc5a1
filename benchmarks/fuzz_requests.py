"""Raw HTTP requests for the endpoint, made of good ones by damage: to their values, their headers, their bytes."""

import dataclasses
import gzip
import hmac
import json
import random
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

from mutations import TOKENS, damaged_bytes, damaged_often, one_of, written

SECRET: Final = "fuzz-secret"
KEY: Final = "fuzz-write-key"
#: What the endpoint under fire is told of its sources.
SOURCES: Final = """version: 1
sources:
  encharge: {kind: encharge, secrets: [FUZZ_SECRET]}
  hook: {kind: segment_webhook, secrets: [FUZZ_SECRET]}
  stream: {kind: segment_stream, secrets: [FUZZ_SECRET]}
  activity: {kind: activity_sync, secrets: [FUZZ_SECRET]}
  crm: {kind: activatepro, secrets: [FUZZ_SECRET]}
  site: {kind: segment, write_keys: {web: FUZZ_WRITE_KEY}}
"""
_ROOT: Final = Path(__file__).resolve().parents[1]
_ACTIVATEPRO: Final = json.loads((_ROOT / "cli/samples/activatepro.json").read_text())
_STREAM: Final = json.loads((_ROOT / "cli/samples/encharge.json").read_text())
_SEGMENT: Final = [
    (case["path"], json.loads(case["raw_body"]))
    for case in json.loads((_ROOT / "tests/vectors/segment_inbound.json").read_text())["requests"]
    if case.get("raw_body")
]
_WEBHOOK: Final = {
    "endUserData": [{"id": "1", "email": "one@example.com"}, {"id": "2"}],
    "eventPayload": {"tag": "a/b"},
}
_TRACK: Final = {
    "type": "track",
    "event": "Signed Up",
    "userId": "u1",
    "messageId": "m1",
    "properties": {"plan": "pro"},
}
_ACTIVITY: Final = json.loads(
    json.loads((_ROOT / "tests/vectors/firehose.json").read_text())["plain"]["records_decoded"][0]["data"]
)
_SECRET_HEADERS: Final = (
    f"Authorization: Bearer {SECRET}",
    f"Authorization: Basic {b64encode(f'x:{SECRET}'.encode()).decode()}",
    f"X-Webhook-Secret: {SECRET}",
)
_ODD_HEADERS: Final = (
    *("Content-Encoding: gzip", "Content-Encoding: br", "Content-Type: text/plain", "Content-Type: application/x+json"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Content-Length: 0", "Content-Length: -1"),
    *("Content-Length: 5", "Content-Length: 99999999999999999999", "Content_Length: 3", "Expect: 100-continue"),
    *(
        "Connection: close",
        "Connection: Upgrade\r\nUpgrade: h2c",
        "Authorization: Basic ////",
        "Authorization: Bearer ",
    ),
    *("X-Signature: \xff", "Origin: null", "X-Forwarded-For: ,,,,", "Host: ", "X-A: " + "a" * 9000, "Range: bytes=0-"),
)
_METHODS: Final = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "\x00", "A" * 300)


@dataclasses.dataclass
class Post:
    """A request before it becomes bytes."""

    path: str
    headers: list[str]
    value: Any
    method: str = "POST"
    sign: bool = False


def webhooks(dice: random.Random) -> Post:
    """To the source encharge: Activity Stream, REST webhooks."""
    headers = ["Content-Type: application/json", dice.choice(_SECRET_HEADERS)]
    path = f"/webhooks/encharge/{dice.choice(('added-tag-a/b', 'newUser', 'x' * 600, '%ff%00', '%F0%9F%92%A9'))}"
    return one_of(
        dice,
        (6, lambda: Post("/webhooks/encharge", headers, dice.choice(_STREAM))),
        (3, lambda: Post(path, headers, _WEBHOOK)),
        (1, lambda: Post(f"/webhooks/encharge?secret={SECRET}", headers[:1], dice.choice(_STREAM))),
    )


def signed(dice: random.Random) -> Post:
    """To a source whose secret signs the body."""
    value = dice.choice((_TRACK, [_TRACK, {"free": "form"}], [_TRACK] * 30))
    return Post("/webhooks/hook", ["Content-Type: application/json"], value, sign=True)


def tracking(dice: random.Random) -> Post:
    """To Segment's Tracking API, as its client libraries post."""
    path, value = dice.choice(_SEGMENT)
    key = b64encode(f"{KEY}:".encode()).decode()
    return Post(path, ["Content-Type: application/json", f"Authorization: Basic {key}"], value)


def lines(dice: random.Random) -> Post:
    """To a source that takes several events in a body."""
    value = dice.choice(([_TRACK, {"free": "form"}], _TRACK, [_ACTIVITY] * 3))
    headers = [f"Content-Type: {dice.choice(('application/json', 'application/x-ndjson'))}", _SECRET_HEADERS[0]]
    return Post(f"/webhooks/{dice.choice(('stream', 'activity'))}", headers, value)


def firehose(dice: random.Random) -> Post:
    """To the door for Firehose, whose records are damaged before they become base64, too."""
    value = dice.choice((_TRACK, _ACTIVITY, [_TRACK] * 3))
    records = [b64encode(written(damaged_often(dice, value))).decode() for _ in range(dice.choice((1, 3, 40)))]
    headers = [
        "Content-Type: application/json",
        f"X-Amz-Firehose-Access-Key: {SECRET}",
        "X-Amz-Firehose-Request-Id: r1",
        'X-Amz-Firehose-Common-Attributes: {"commonAttributes": {"a": "b"}}',
    ]
    body = {"requestId": "r1", "timestamp": 1578090901599, "records": [{"data": data} for data in records]}
    return Post(f"/firehose/{dice.choice(('stream', 'activity', 'encharge'))}", headers, body)


def events(dice: random.Random) -> Post:
    """To ActivatePro's Events API, and its events in other forms to their source."""
    value = dice.choice(_ACTIVATEPRO)
    headers = ["Content-Type: application/json", _SECRET_HEADERS[0], f"X-XNG-AuthToken: {SECRET}"]
    several = {"id": "1", "events": [{"event": "Message Sent", "properties": {"channel": "Email"}}] * 3}
    return one_of(
        dice,
        (3, lambda: Post("/events", headers, several)),
        (1, lambda: Post("/events", headers, value)),
        (2, lambda: Post("/webhooks/crm", headers, dice.choice((value, [value, several])))),
    )


def health(dice: random.Random) -> Post:
    """To what is served besides: health, metrics, and no address at all."""
    path = dice.choice(
        ("/livez", "/readyz", "/metrics", "/", "/metrics/", "/static/x", "//livez", "/webhooks/", "/v1/")
    )
    return Post(path, [], None, method="GET")


DOORS: Final[Mapping[str, Callable[[random.Random], Post]]] = {
    "webhooks": webhooks,
    "signed": signed,
    "tracking": tracking,
    "lines": lines,
    "firehose": firehose,
    "events": events,
    "health": health,
}


def raw(dice: random.Random, post: Post) -> bytes:
    """As bytes; in most cases damaged somewhere, sometimes everywhere."""
    value = damaged_often(dice, post.value)
    body = b"" if value is None and post.method == "GET" else written(value)[:_MOST_BODY]
    if dice.random() < 0.15:
        body = damaged_bytes(dice, body)
    headers = ["Host: 127.0.0.1", *post.headers]
    if post.sign:
        first = written(value[0]) if isinstance(value, list) and value else body
        headers.append(f"X-Signature: {hmac.new(SECRET.encode(), first, sha1).hexdigest()}")
    if dice.random() < 0.12:
        headers, body = [*headers, "Content-Encoding: gzip"], _packed(dice, body)
    if dice.random() < 0.2:
        headers.insert(dice.randint(0, len(headers)), dice.choice(_ODD_HEADERS))
    if dice.random() < 0.05:
        headers += [f"X-{number}: {dice.choice(('', 'a', 'b' * 200))}" for number in range(dice.choice((20, 90, 120)))]
    announced = len(body) + (dice.choice((-1, 1, 100_000, -len(body))) if dice.random() < 0.04 else 0)
    chunked = dice.random() < 0.04
    headers.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {announced}")
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    method = dice.choice(_METHODS) if dice.random() < 0.06 else post.method
    path = post.path if dice.random() < 0.92 else _damaged_text(dice, post.path)
    version = "1.1" if dice.random() < 0.97 else dice.choice(("1.0", "2.0", "0.9", "1.11"))
    head = "\r\n".join((f"{method} {path} HTTP/{version}", *headers, "", "")).encode("latin-1", "replace")
    if dice.random() < 0.08:
        head = damaged_bytes(dice, head)
    return head + body


def _packed(dice: random.Random, body: bytes) -> bytes:
    packed = gzip.compress(body, 1)
    return one_of(
        dice,
        (4, lambda: packed),
        (1, lambda: packed[: len(packed) // 2]),
        (1, lambda: damaged_bytes(dice, packed)),
        (1, lambda: packed + packed),
        (1, lambda: _BOMB),
    )


def _damaged_text(dice: random.Random, text: str) -> str:
    place = dice.randint(0, len(text))
    return text[:place] + dice.choice(TOKENS).decode("latin-1") + text[place:]


#: Of what is worth sending: limits of the endpoint are well below.
_MOST_BODY: Final = 2 << 20
#: 64 MiB of zeros in 64 KiB.
_BOMB: Final = gzip.compress(b"\0" * (64 << 20), 9)
