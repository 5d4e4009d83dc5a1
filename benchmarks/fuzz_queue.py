"""Messages for Celery's list in Redis, made of good ones by damage; and what the worker has to do with them."""

import json
import random
import subprocess
import time
import uuid
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

from mutations import damaged_bytes, damaged_often, damaged_value, one_of, written

from tasks.queue import PUBLISH_TASK, ROUTE_TASK, redis_message

BATCH: Final = 100
_DRAINED_S: Final = 20.0
_CASES: Final = [
    case["message"]
    for case in json.loads((Path(__file__).resolve().parents[1] / "tests/vectors/malformed_messages.json").read_text())[
        "cases"
    ]
    if isinstance(case["message"], dict)
]
_ENVELOPE: Final = {
    "version": 1,
    "id": "fuzz",
    "source": "fuzz",
    "format": "encharge",
    "type": "performed-step",
    "name": "performed-step:1",
    "subject": "fuzz:1",
    "received_at": "2026-01-01T00:00:00Z",
    "occurred_at": "2026-01-01T00:00:00Z",
    "event": {"event": "performed-step:1", "user": {"email": "one@example.com"}, "properties": {"n": 1}},
}


def message(dice: random.Random) -> bytes:
    """Damaged in its envelope, in its call, in its own form, or in its bytes."""
    return one_of(
        dice,
        (4, lambda: _called(_published("x"), [_damaged_envelope(dice)])),
        (3, lambda: written(damaged_value(dice, json.loads(_published(str(dice.random())))))),
        (2, lambda: written(damaged_value(dice, dice.choice(_CASES)))),
        (2, lambda: damaged_bytes(dice, _published(str(dice.random())))),
        (1, lambda: _called(redis_message(ROUTE_TASK, [], shadow="x", argsrepr="x"), damaged_value(dice, [["a"]]))),
        (1, lambda: _with_body(_published("x"), written(damaged_value(dice, [[_damaged_envelope(dice)], {}, None])))),
    )


def round_trip(client: Any, messages: list[bytes], worker: "subprocess.Popen[bytes]") -> tuple[str, float]:
    """Push them and a good one; what went wrong ("" = nothing), and how long until the good one was in the ledger."""
    begun, good = time.monotonic(), f"good-{uuid.uuid4()}"
    client.lpush("events", *messages, _published(good))
    while True:
        took = time.monotonic() - begun
        if worker.poll() is not None:
            return f"the worker ended with {worker.returncode}", took
        if client.exists(f"router:event:{good}") and not client.llen("events"):
            time.sleep(0.05)
            return "", took
        if took > _DRAINED_S:
            return f"not drained after {took:.0f} s: {client.llen('events')} wait", took
        time.sleep(0.01)


def _damaged_envelope(dice: random.Random) -> Any:
    return damaged_often(dice, {**_ENVELOPE, "id": str(dice.random())})


def _published(id_: str) -> bytes:
    return redis_message(PUBLISH_TASK, [{**_ENVELOPE, "id": id_}], shadow=None, argsrepr="")


def _called(message: bytes, args: Any) -> bytes:
    return _with_body(message, written([args, {}, {}]))


def _with_body(message: bytes, body: bytes) -> bytes:
    return written({**json.loads(message), "body": b64encode(body).decode()})
