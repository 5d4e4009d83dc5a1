"""Redis goes away, hangs or fills up: senders are answered 2xx all the same, and nothing is lost or overtaken."""

import itertools
import signal
import threading
import time
from collections.abc import Callable

import requests
from conftest import SECRET, Router, numbered, wait

from app.spool import spooled
from cli import redis_server, stack

SUBJECTS = 8
A_BUDGET = {"ACCEPT_TIMEOUT_S": "0.05"}


class Sender(threading.Thread):
    """Posts one subject's events, each after the one before it was answered; repeats what found nobody there."""

    def __init__(self, number: int, urls: list[str], until: threading.Event) -> None:
        super().__init__()
        self.number = number
        self.urls = itertools.cycle(urls)
        self.until = until
        self.ids: list[str] = []
        self.seconds: list[float] = []
        self.refused: list[int] = []

    def run(self) -> None:
        person = {"id": f"person-{self.number}", "email": f"person-{self.number}@example.com"}
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {SECRET}"
            for event in numbered(10_000, user=person):
                if self.until.wait(0.08):
                    return
                self.post(session, event)

    def post(self, session: requests.Session, event: object) -> None:
        for url in self.urls:
            begun = time.monotonic()
            try:
                answer = session.post(f"{url}/webhooks/encharge", json=event, timeout=10)
            except requests.ConnectionError:
                continue  # the web process that was killed
            self.seconds.append(time.monotonic() - begun)
            if answer.ok:
                self.ids += answer.json()["ids"]
                return
            self.refused.append(answer.status_code)
            time.sleep(0.1)


def ready(router: Router) -> tuple[int, str]:
    answer = router.session.get(f"{router.web_url}/readyz", timeout=5)
    return answer.status_code, answer.json()["code"]


def test_redis_dies_and_a_web_process_while_it_spools(make_router: Callable[..., Router]) -> None:
    """Redis killed under load, one of two web processes killed -9 meanwhile: no refusal, all delivered, in order."""
    router = make_router(**A_BUDGET)
    router.start_all()
    other_port = redis_server.free_port()
    other_url = f"http://127.0.0.1:{other_port}"
    router.start("other", stack.web_command(other_port))
    wait(lambda: stack.answers(f"{other_url}/readyz"), 15, "the other endpoint answers")
    until = threading.Event()
    senders = [Sender(number, [router.web_url, other_url], until) for number in range(SUBJECTS)]
    for each in senders:
        each.start()
    try:
        time.sleep(0.5)
        router.kill_redis()
        wait(lambda: len(spooled(router.folder / "spool")) > 20, 10, "events are spooled")
        assert ready(router) == (200, "spooling")
        assert "event_router_redis_up 0.0" in router.session.get(f"{router.web_url}/metrics", timeout=5).text
        router.kill("other")
        time.sleep(0.5)
        router.start("other", stack.web_command(other_port))
        time.sleep(0.5)
        router.restart_redis()
        wait(lambda: ready(router) == (200, "ready"), 15, "everything is drained")
        time.sleep(0.3)
    finally:
        until.set()
        for each in senders:
            each.join()

    ids = [id_ for each in senders for id_ in each.ids]
    assert [code for each in senders for code in each.refused] == []
    events = {event.id: event for event in router.settled(ids, 30)}
    assert {event.state for event in events.values()} == {"delivered"}
    for each in senders:
        accepted = [events[id_].accepted_at for id_ in each.ids]
        assert accepted == sorted(accepted), "an event overtook another of its subject"
    router.assert_equation()
    lines = b"".join((router.folder / f"{name}.log").read_bytes() for name in ("web", "other"))
    begun, drained = lines.count(b'"spool.begun"'), lines.count(b'"spool.drained"')
    assert 1 <= drained <= begun < 10
    seconds = sorted(second for each in senders for second in each.seconds)
    print(f"\n{len(ids)} events, none refused; accept p99 {seconds[int(len(seconds) * 0.99)] * 1000:.0f} ms")


def test_redis_hangs_and_the_spool_fills_up(make_router: Callable[..., Router]) -> None:
    """A stopped Redis costs one time-out; beyond SPOOL_MAX_BYTES it is 503 and when to come again; then all drain."""
    router = make_router(**A_BUDGET, SPOOL_MAX_BYTES="1048576")
    router.start_web()
    assert router.redis.process is not None
    events = numbered(12, user={"id": "1", "email": "one@example.com", "note": "x" * 150_000})
    answers = [router.post(events[0])]
    router.redis.process.send_signal(signal.SIGSTOP)
    try:
        for event in events[1:]:
            answers.append(router.post(event))
            if not answers[-1].ok:
                break
        refused = answers.pop()
        assert refused.status_code == 503
        assert refused.json()["code"] == "queue_full"
        assert int(refused.headers["Retry-After"]) > 0
        assert len(answers) > 5
        assert ready(router) == (503, "spool_full")
        # All but the first within the budget; a busy machine is granted ten times as much.
        assert max(answer.elapsed.total_seconds() for answer in answers[1:]) < 1
    finally:
        router.redis.process.send_signal(signal.SIGCONT)
    wait(lambda: ready(router) == (200, "ready"), 15, "everything is drained")
    assert router.post(events[-1]).ok
    counts = router.counts("source", "encharge")
    assert counts["waiting"] == len(answers) + 1
    assert counts["accepted"] - counts.get("duplicate", 0) == len(answers) + 1


def test_redis_is_full(make_router: Callable[..., Router]) -> None:
    """No memory left: spooled, and not drained while memory is above the mark; then drained by itself."""
    router = make_router(**A_BUDGET)
    router.start_web()
    client = router.connection.ledger.client
    client.config_set("maxmemory", 1)
    events = numbered(20)
    ids = [id_ for event in events for id_ in router.post(event).json()["ids"]]
    assert ready(router) == (200, "spooling")
    time.sleep(1)
    assert [row.envelope.id for row in spooled(router.folder / "spool")] == ids

    client.config_set("maxmemory", 0)
    wait(lambda: ready(router) == (200, "ready"), 15, "everything is drained")
    assert [event is not None and event.state for event in router.connection.ledger.events(ids)] == ["accepted"] * 20


def test_a_folder_that_cannot_be_used(make_router: Callable[..., Router]) -> None:
    """The web process does not start, and `check` says the same."""
    router = make_router()
    (router.folder / "taken").touch()
    router.environ["SPOOL_FOLDER"] = str(router.folder / "taken")
    process = router.start("web", stack.web_command(router.web_port))
    assert process.wait(20) != 0
    text = f"SPOOL_FOLDER: cannot be used: {router.folder / 'taken'} is no folder"
    assert text in (router.folder / "web.log").read_text()
    done = router.command("check", "--offline", "--json", status=1)
    assert text in done
