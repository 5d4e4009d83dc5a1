"""Published messages among malformed ones, and under kill -9: nothing is lost, and no worker dies that is not killed.

First every kind of malformed message (tests/vectors), each `--times` times in random order among `--good` good ones, to
two workers. Then `--killed` good messages while one of two workers after the other is killed with SIGKILL, `--kills`
times, and started again. Checked in the ledger: each good event is delivered, each bad message is kept with a reason.
"""

import argparse
import collections
import json
import random
import sys
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

from stage import stage

from config.celery_settings import QUEUE
from tasks.ledger import NO_ROUTE
from tasks.queue import PUBLISH_TASK, redis_message
from tasks.verify import verify
from torture.parts import Parts, wait

VECTORS = Path(__file__).resolve().parents[1] / "tests/vectors/malformed_messages.json"
PUBLISHER = "billing"


def good(number: int) -> bytes:
    """One event of one of 200 people."""
    event = {
        "version": 1,
        "id": f"good-{number}",
        "source": PUBLISHER,
        "format": "published",
        "type": "numbered",
        "name": "numbered",
        "subject": f"person-{number % 200}",
        "received_at": "2026-01-01T00:00:00Z",
        "occurred_at": "2026-01-01T00:00:00Z",
        "event": {"user": {"email": f"person-{number % 200}@example.com"}, "properties": {"number": number}},
    }
    return redis_message(PUBLISH_TASK, [event], shadow=None, argsrepr="(…)")


def raw(kept: Any) -> bytes:
    """A case of the vectors → the bytes on the list."""
    if isinstance(kept, dict):
        return json.dumps(kept).encode()
    kind, _, text = kept.partition(":")
    return b64decode(text) if kind == "base64" else text.encode()


def states(parts: Parts, numbers: range) -> collections.Counter[str]:
    """How many of the good events are in which state."""
    found = parts.connection.ledger.events([f"good-{number}" for number in numbers])
    return collections.Counter(event.state if event else "missing" for event in found)


def among_malformed(parts: Parts, given: argparse.Namespace, dice: random.Random) -> list[str]:
    """Gives what is wrong."""
    cases = json.loads(VECTORS.read_text())["cases"]
    bad = [raw(case["message"]) for case in cases for _ in range(given.times)]
    mixed = bad + [good(number) for number in range(given.good)]
    dice.shuffle(mixed)
    begun = time.monotonic()
    for message in mixed:
        parts.connection.ledger.client.lpush(QUEUE, message)
    numbers = range(given.good)
    wait(lambda: states(parts, numbers)["delivered"] == given.good, 300, "all good events are delivered")
    took = time.monotonic() - begun
    reasons = collections.Counter(letter.reason for letter in parts.connection.letters.find())
    dead = [name for name in ("worker-0", "worker-1") if parts.processes[name].poll() is not None]
    ended = dict(states(parts, numbers))
    print(f"{given.good} good among {len(bad)} malformed messages of {len(cases)} kinds, {took:.1f} s: {ended}")
    print(f"dead letters {sum(reasons.values())}: {dict(reasons)}; workers that died: {len(dead)}", flush=True)
    wrong = [f"{name} died" for name in dead]
    if sum(reasons.values()) != len(bad):
        wrong.append(f"{len(bad)} malformed messages, {sum(reasons.values())} dead letters")
    return wrong


def under_kills(parts: Parts, given: argparse.Namespace, dice: random.Random) -> list[str]:
    """Gives what is wrong."""
    numbers = range(given.good, given.good + given.killed)
    client, kills, begun = parts.connection.ledger.client, 0, time.monotonic()
    for number in numbers:
        client.lpush(QUEUE, good(number))
        if (number - given.good) % (given.killed // given.kills) == given.killed // given.kills - 1:
            time.sleep(dice.random() * 0.3)
            name = f"worker-{kills % 2}"
            parts.kill(name)
            kills += 1
            parts.start_worker(name, ready=False)
            time.sleep(dice.random())
        time.sleep(0.003)
    wait(lambda: states(parts, numbers)["delivered"] == given.killed, 180, "all are delivered")
    found = verify(parts.connection.ledger).findings
    took, ended = time.monotonic() - begun, dict(states(parts, numbers))
    print(f"{given.killed} published under {kills} kill -9, {took:.1f} s: {ended}")
    return [f"{each.event_id}: {each.what}" for each in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--good", type=int, default=2000)
    parser.add_argument("--killed", type=int, default=3000)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    dice = random.Random(given.seed)
    with stage(LEASE_S="3", TICKET_GRACE_S="1") as on:
        for worker in range(2):
            on.parts.start_worker(f"worker-{worker}")
        wrong = among_malformed(on.parts, given, dice) + under_kills(on.parts, given, dice)
        print(f"ledger, source {PUBLISHER}: {on.parts.connection.ledger.counts()['source', PUBLISHER]}")
        letters = on.parts.connection.letters.find()
        died = [each for each in letters if each.source == PUBLISHER and each.route != NO_ROUTE]
        wrong += [f"{len(died)} good events died"] if died else []
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
