"""The ways in: how each kind of sender writes its events down, and how it learns their ids."""

import dataclasses
import hmac
import json
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, Final

from tasks.envelope import rfc3339
from tasks.queue import PUBLISH_TASK, redis_message
from torture.events import Event, Post


@dataclasses.dataclass(frozen=True)
class Secrets:
    """What senders have to know."""

    stream: str
    write_key: str
    hook: str


@dataclasses.dataclass(frozen=True)
class Sending:
    """A post made ready: repeated, it is the same to the byte, so the router can know it again."""

    path: str  #: "" = a message on the queue in place of a request
    body: bytes
    headers: Mapping[str, str]
    ids: tuple[str, ...]  #: () = the answer says them


def sending(post: Post, run: str, secrets: Secrets, padding: int = 0) -> Sending:
    """`run` makes the ids of one run differ from those of another; `padding` is in bytes, for each event."""
    return _WRITERS[post.way](post.events, run, secrets, {"padding": "x" * padding} if padding else {})


def ids_of(made: Sending, answer: Any) -> tuple[str, ...]:
    """The ids of the events of a post that was answered 2xx, in their order."""
    return made.ids or tuple(answer["ids"])


def _stream(events: Sequence[Event], run: str, secrets: Secrets, more: Mapping[str, str]) -> Sending:
    (event,) = events
    body = {
        "event": event.name,
        "type": "torture",
        "properties": {**event.properties, "run": run},
        "user": {"id": f"{run}-{event.subject}", "email": event.email},
        "timestamp": time.time_ns() // 1_000_000,
        **more,
    }
    return Sending("/webhooks/encharge", _json(body), {"Authorization": f"Bearer {secrets.stream}"}, ())


def _track(events: Sequence[Event], run: str, secrets: Secrets, more: Mapping[str, str]) -> Sending:
    (event,) = events
    return _tracking("/v1/track", _call(event, run, more), events, run, secrets)


def _batch(events: Sequence[Event], run: str, secrets: Secrets, more: Mapping[str, str]) -> Sending:
    return _tracking("/v1/batch", {"batch": [_call(event, run, more) for event in events]}, events, run, secrets)


def _tracking(path: str, body: Mapping[str, Any], events: Sequence[Event], run: str, secrets: Secrets) -> Sending:
    user = b64encode(f"{secrets.write_key}:".encode()).decode()
    return Sending(path, _json(body), {"Authorization": f"Basic {user}"}, _own_ids(events, run))


def _hook(events: Sequence[Event], run: str, secrets: Secrets, more: Mapping[str, str]) -> Sending:
    calls = [_json(_call(event, run, more)) for event in events]
    # Of a list only the first item is signed, as Segment does.
    signature = hmac.new(secrets.hook.encode(), calls[0], sha1).hexdigest()
    return Sending("/webhooks/shop", b"[" + b",".join(calls) + b"]", {"X-Signature": signature}, _own_ids(events, run))


def _task(events: Sequence[Event], run: str, _secrets: Secrets, more: Mapping[str, str]) -> Sending:
    now = rfc3339(datetime.now(UTC))
    envelopes = [
        {
            "version": 1,
            "id": id_,
            "source": "billing",
            "format": "billing",
            "type": "torture",
            "name": event.name,
            "subject": f"{run}-{event.subject}",
            "received_at": now,
            "occurred_at": now,
            "event": {"event": event.name, "user": {"email": event.email}, "properties": event.properties, **more},
        }
        for event, id_ in zip(events, _own_ids(events, run), strict=True)
    ]
    message = redis_message(PUBLISH_TASK, [envelopes], shadow=None, argsrepr=f"({len(envelopes)} events)")
    return Sending("", message, {}, _own_ids(events, run))


def _call(event: Event, run: str, more: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "track",
        "messageId": _own_ids([event], run)[0],
        "userId": f"{run}-{event.subject}",
        "event": event.name,
        "properties": event.properties,
        "timestamp": rfc3339(datetime.now(UTC)),
        **more,
    }


def _own_ids(events: Sequence[Event], run: str) -> tuple[str, ...]:
    return tuple(f"{run}-{event.tag}" for event in events)


def _json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


_WRITERS: Final[Mapping[str, Callable[[Sequence[Event], str, Secrets, Mapping[str, str]], Sending]]] = {
    "stream": _stream,
    "track": _track,
    "batch": _batch,
    "hook": _hook,
    "task": _task,
}
