"""Every sample of Activity Sync and ActivatePro by every door that takes it ends as docs/default-routes.md says."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builders import REPOSITORY, default_routes
from conftest import DONE, SECRET, Router, wait
from firehose_standin import Standin
from kinesis_stream import CREDENTIALS, REGION, Stream

from app.sources import KINDS
from tasks.envelope import Envelope

SAMPLES = {
    kind: json.loads((REPOSITORY / f"cli/samples/{kind}.json").read_text()) for kind in ("activity_sync", "activatepro")
}
DOORS = {"activity_sync": ("hook", "lines", "fire", "stream"), "activatepro": ("hook", "lines", "fire", "api", "feed")}
TOLD = default_routes()
#: ActivatePro's two events in the API's form are among those in the feeds' form: the same, and known as such.
TWICE = {"activity_sync": 0, "activatepro": 2}


def declared(folder: Path, stream: Stream) -> dict[str, str]:
    """A source for each kind and door."""
    lines = [
        f"  {kind}-{door}: {{kind: {kind}, secrets: [{'TOKEN' if door == 'api' else 'SECRET'}]"
        + (f", kinesis: {{stream: events, region: {REGION}, endpoint_url: '{stream.url}'}}" * (door == "stream"))
        + "}"
        for kind, doors in DOORS.items()
        for door in doors
    ]
    (folder / "sources.yaml").write_text(
        "\n".join(["version: 1", "sources:", "  encharge: {kind: encharge, secrets: [SECRET]}", *lines, ""])
    )
    return {"SOURCES_FILE": str(folder / "sources.yaml"), "SECRET": SECRET, "TOKEN": "a-token", **CREDENTIALS}


def expected(kind: str) -> Counter[tuple[str, frozenset[str]]]:
    """Type and routes of each sample. People of whom there is a phone number only are filtered."""
    unwrap = KINDS[kind].unwrap
    assert unwrap is not None
    found = {}
    for body in SAMPLES[kind]:
        for envelope in unwrap(kind, body, None, datetime.now(UTC), None):
            assert isinstance(envelope, Envelope)
            known = envelope.person is None or bool({"email", "userId"} & set(envelope.person))
            found[envelope.id] = (envelope.type, frozenset(TOLD[envelope.name] if known else ()))
    return Counter(found.values())


def ended(router: Router) -> dict[str, Counter[tuple[str, frozenset[str]]]]:
    """Type and routes of every event, by its source."""
    ids = [key.decode().removeprefix("router:event:") for key in router.connection.ledger.client.keys("router:event:*")]
    found: dict[str, Counter[tuple[str, frozenset[str]]]] = {}
    for event in router.some(ids):
        assert event is not None
        assert {event.state} | {each.state for each in event.deliveries.values()} <= {"delivered", "filtered"}
        found.setdefault(event.source, Counter())[event.type, frozenset(event.deliveries)] += 1
    return found


def enter(router: Router, stream: Stream, folder: Path) -> None:
    """Each sample by each door."""
    lines = {kind: [json.dumps(sample) for sample in samples] for kind, samples in SAMPLES.items()}
    for kind, samples in SAMPLES.items():
        for sample in samples:
            assert router.post(sample, f"{kind}-hook").ok
        body = "\n".join(lines[kind])
        answer = router.session.post(
            f"{router.web_url}/webhooks/{kind}-lines",
            data=body,
            headers={"Authorization": f"Bearer {SECRET}", "Content-Type": "application/x-ndjson"},
            timeout=10,
        )
        assert answer.status_code == 200, answer.text
        standin = Standin(router.web_port, f"/firehose/{kind}-fire", SECRET, tries=1)
        standin.deliver(kind, [line.encode() for line in lines[kind]], packed=True)
        standin.close()
    stream.put_raw(*(line.encode() for line in lines["activity_sync"]))
    rows = [sample for sample in SAMPLES["activatepro"] if "event" in sample]
    for sample in SAMPLES["activatepro"]:
        answer = router.session.post(
            f"{router.web_url}/events", json=as_api(sample), headers={"X-XNG-AuthToken": "a-token"}, timeout=10
        )
        assert (answer.status_code, answer.content) == (202, b"")
    feed = folder / "event_history_20220111000000.json"
    feed.write_text(json.dumps(rows, indent=2))
    router.command("import", "activatepro", str(feed), "--source", "activatepro-feed")


def as_api(sample: dict[str, Any]) -> dict[str, Any]:
    """A row of a feed in the API's form."""
    if "events" in sample:
        return sample
    properties = {key: value for key, value in sample.items() if key not in {"id", "event", "timestamp"}}
    one = {"event": sample["event"], "timestamp": sample["timestamp"], "properties": properties}
    return {"id": sample["id"], "events": [one]}


def test_every_sample_by_every_door(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """Whichever way an event came, the same becomes of it."""
    router = make_router()
    stream = Stream(router, 1)
    router.environ |= declared(tmp_path, stream)
    router.start_all()
    stream.start_consumer("reader")

    enter(router, stream, tmp_path)

    sources = {f"{kind}-{door}": kind for kind, doors in DOORS.items() for door in doors}
    new = {name: len(list(expected(kind).elements())) for name, kind in sources.items()}

    def all_done() -> bool:
        counts = router.connection.ledger.counts()
        return all(
            sum(counts.get(("source", name), {}).get(state, 0) for state in DONE) == count
            for name, count in new.items()
        )

    wait(all_done, 20, "all have ended")
    found = ended(router)
    assert found == {name: expected(kind) for name, kind in sources.items()}
    twice = {name: router.counts("source", name).get("duplicate", 0) for name in sources}
    assert twice == {name: 0 if name.endswith("-feed") else TWICE[kind] for name, kind in sources.items()}
    router.assert_equation()
