"""A message is data: what could run as a program is put away unread, whatever it says of itself."""

import json
import os
import pickle
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builders import envelope_data
from conftest import Router, wait

from tasks.queue import PUBLISH_TASK, redis_message

PICKLE, YAML = "application/x-python-serialize", "application/x-yaml"


class Program:
    """Whoever unpickles it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def message(body: bytes, content_type: str, encoding: str, **headers: Any) -> dict[str, Any]:
    sent = json.loads(redis_message(PUBLISH_TASK, [], shadow=None, argsrepr=""))
    sent["headers"] |= headers
    return {**sent, "body": b64encode(body).decode(), "content-type": content_type, "content-encoding": encoding}


def test_pickle_and_yaml_stay_unread(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """Neither as a task, nor as remote control, nor under a false name; the worker goes on."""
    traces = [tmp_path / name for name in ("pickled", "yamled", "controlled")]
    pickled = pickle.dumps([[Program(traces[0])], {}, {}])
    yamled = f"!!python/object/apply:os.mkdir [{traces[1]}]".encode()
    messages = [
        message(body, content_type, encoding)
        for body, kind in ((pickled, PICKLE), (yamled, YAML))
        for content_type in (kind, "application/json", "", None)
        for encoding in ("binary", "utf-8")
    ]
    # Nothing unsafe, but more than stock Celery bears.
    good = json.dumps([[envelope_data(source="billing")], {}, {}]).encode()
    odd = [{"expires": 0}, {"eta": "0001-01-01T00:00:00+14:00"}, {"timelimit": ["x", {}]}, {"retries": {}}]
    messages += [message(good, "application/json", "utf-8", **headers) for headers in odd]
    router = make_router()
    router.start_worker()
    client = router.connection.ledger.client
    client.lpush("events", *map(json.dumps, messages))
    control = message(pickle.dumps(Program(traces[2])), PICKLE, "binary")
    for channel in ("/0.celery.pidbox", "/0.celeryev/worker.heartbeat"):
        client.publish(channel, json.dumps(control))
    client.lpush(
        "events", redis_message(PUBLISH_TASK, [envelope_data(id="last", source="billing")], shadow=None, argsrepr="")
    )

    wait(lambda: router.connection.ledger.event("last") is not None, 15, "the worker goes on")
    wait(lambda: client.zcard("router:quarantine") >= 16, 10, "all are in quarantine")
    letters = [json.loads(line) for line in router.command("dead", "list", "--json").splitlines()]
    assert {letter["reason"] for letter in letters} <= {"invalid", "undecodable"}
    assert router.processes["worker"].poll() is None
    assert not [trace for trace in traces if trace.exists()]
