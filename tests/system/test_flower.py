"""Flower, as operators use it: a row for each event, whatever becomes of it, and whatever is restarted."""

import shutil
import sys
from collections.abc import Callable
from typing import Any

import requests
from builders import back, envelope_data
from celery import Celery
from conftest import Router, numbered, wait

from cli import redis_server, stack
from tasks.ledger import RETRYING

ROUTES = """
version: 1
routes:
  - {name: ingest, trigger: 'match(event, "performed-step:*")', action: track_event,
     mapping: {event: Step, email: {"@path": $.user.email}, properties: {"@path": $.properties}}}
  - {name: api, trigger: 'match(event, "added-tag-*")', action: tag_user,
     mapping: {via: api, email: {"@path": $.user.email}, tag: vip}}
"""
LOGIN = ("operator", "flower-secret")
PAGES = ("", "workers", "tasks", "task/x", "worker/x", "broker", "tasks/datatable?draw=1&start=0&length=9")
API = ("api/tasks", "api/task/info/x", "api/task/types", "api/workers", "api/queues/length", "api/task/result/x")


class Flower:
    """Started beside a router, and asked as a browser and a program would."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.port = redis_server.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.auth = LOGIN
        self.start()

    def start(self) -> None:
        process = self._router.start("flower", stack.flower_command(self.port), FLOWER_BASIC_AUTH=":".join(LOGIN))
        wait(lambda: stack.answers(f"{self.url}/healthcheck"), 15, "Flower answers", process)

    def get(self, path: str) -> requests.Response:
        return self.session.get(f"{self.url}/{path}", timeout=10)

    def row(self, id_: str) -> dict[str, Any]:
        answer = self.get(f"api/task/info/{id_}")
        return dict(answer.json()) if answer.ok else {}

    def shows(self, state: str, *ids: str) -> None:
        """Wait until all of them are in that state."""

        def shown() -> bool:
            return {self.row(id_).get("state") for id_ in ids} == {state}

        try:
            wait(shown, 10, f"Flower shows {state}")
        except Exception:
            print([self.row(id_) for id_ in ids])
            raise

    def found(self, text: str) -> list[str]:
        """What the search of the Tasks page finds, and that of the API, which are to be the same."""
        query = f"draw=1&start=0&length=100&search[value]={text}&order[0][column]=0&columns[0][data]=name"
        by_page = [row["uuid"] for row in self.get(f"tasks/datatable?{query}&order[0][dir]=asc").json()["data"]]
        by_api = list(self.get(f"api/tasks?search={text}").json())
        assert sorted(by_page) == sorted(by_api)
        return by_page


def test_a_row_for_each_event(make_router: Callable[..., Router], tmp_path: Any) -> None:
    """Named, found by its id, with what became of it: through failures, replay, and restarts of worker and Flower."""
    (tmp_path / "routes.yaml").write_text(ROUTES)
    # Nothing is tried again by itself.
    router = make_router(ROUTES_FILE=str(tmp_path / "routes.yaml"), RETRY_BASE_S="3000", RETRY_MAX_DELAY_S="3600")
    router.start_all()
    flower = Flower(router)

    for path in (*PAGES, *API):
        assert requests.get(f"{flower.url}/{path}", timeout=5).status_code == 401, path
    # It has begun to listen when it has heard of a worker.
    wait(lambda: bool(flower.get("workers?json=1").json()["data"]), 15, "Flower knows a worker")
    # And has asked it when it knows of the list of tickets.
    wait(lambda: "events.tickets" in flower.get("broker").text, 15, "Flower knows its lists")
    broker = flower.get("broker")
    assert broker.status_code == 200
    lengths = flower.get("api/queues/length").json()["active_queues"]
    for queue in ("events", "events.tickets"):
        assert f">{queue}<" in "".join(broker.text.split())
        assert {"name": queue, "messages": 0} in lengths

    (fine,) = router.post_many(numbered(1))
    flower.shows("SUCCESS", fine)
    row = flower.row(fine)
    assert (row["name"], row["args"], row["kwargs"]) == ("encharge · performed-step:0", fine, "{}")
    assert (row["result"], row["exception"]) == ("delivered", None)
    assert row["received"] <= row["started"] <= row["succeeded"]
    (unwanted,) = router.post_many(numbered(1, "newUser"))
    flower.shows("SUCCESS", unwanted)
    assert flower.row(unwanted)["result"] == "filtered"
    publisher = Celery(broker=router.redis.url, set_as_current=False)
    publisher.conf.task_default_queue = "events"
    publisher.send_task("events.publish", [envelope_data(id="paid-7", source="billing", type="paid", name="paid")])
    tag = {"publisher": "billing", "email": "someone@example.com", "tag": "vip"}
    publisher.send_task("users.tag", [], tag, task_id="tag-7")
    publisher.send_task("users.tag", [], {"publisher": "billing", "tag": 7}, task_id="tag-8")
    publisher.send_task("billing.invoice", task_id="invoice-7")
    flower.shows("SUCCESS", "paid-7", "tag-7")
    assert (flower.row("paid-7")["name"], flower.row("tag-7")["name"]) == ("billing · paid", "billing · users.tag")
    flower.shows("FAILURE", "tag-8")
    assert (flower.row("tag-8")["name"], flower.row("tag-8")["exception"]) == ("billing · users.tag", "invalid")
    wait(lambda: bool(flower.found("billing.invoice")), 5, "what nobody can use is shown")
    (unknown,) = flower.found("billing.invoice")
    assert (flower.row(unknown)["state"], flower.row(unknown)["exception"]) == ("FAILURE", "unknown_task")

    router.faults({"path": "/ingest", "status": 503}, {"path": "/api", "status": 400})
    later = router.post_many(numbered(3)[1:])
    (refused,) = router.post_many(numbered(1, "added-tag-vip"))
    flower.shows("RETRY", *later)
    flower.shows("FAILURE", refused)
    assert flower.row(later[0])["exception"].startswith("unavailable, attempt 2 in ")
    assert flower.row(later[0])["exception"].endswith(" s (ingest)")
    assert flower.row(refused)["exception"] == "rejected (api)"
    assert flower.row(refused)["name"] == "encharge · added-tag-vip"
    assert flower.found(fine) == [fine]
    assert sorted(flower.found("state:RETRY")) == sorted(later)
    assert flower.found("added-tag-vip") == [refused]
    assert not flower.found("events.route"), "tickets are no rows"
    # Bug: everybody without a login was told each name, 26 times, and each that was ever made up was kept.
    assert 'task="' not in flower.get("metrics").text
    assert all(flower.get(f"task/{id_}").ok for id_ in (fine, refused, later[0]))

    # What went on while nobody looked; then its own memory is gone, too.
    assert router.terminate("flower", 10)
    router.faults()
    router.kill("worker")
    router.start_worker()
    router.command("dead", "replay", "--all", "--yes")
    back(router.connection.ledger, RETRYING, later[0], 7200)
    router.settled([refused, later[0]], 15)
    flower.start()
    flower.shows("SUCCESS", fine, refused, later[0])
    flower.shows("RETRY", later[1])
    assert (flower.row(refused)["exception"], flower.row(refused)["result"]) == (None, "delivered")
    assert router.terminate("flower", 10)
    shutil.rmtree(router.folder / "flower")
    flower.start()
    flower.shows("SUCCESS", fine, unwanted, refused, later[0])
    flower.shows("RETRY", later[1])
    assert flower.row(fine)["name"] == "encharge · performed-step:0"


def test_flower_does_not_start_without_a_login(make_router: Callable[..., Router]) -> None:
    """And says what is missing."""
    router = make_router()
    program = [sys.executable, "-c", "from cli.main import main; main()", "flower"]
    program += ["--port", str(redis_server.free_port())]
    logins = ("", "operator:")

    for login in logins:
        router.start(f"flower as {login}", program, FLOWER_BASIC_AUTH=login)

    assert [router.processes[f"flower as {login}"].wait(30) for login in logins] == [1, 1]
    for login in logins:
        assert "FLOWER_BASIC_AUTH: must be user:password" in router.log(f"flower as {login}").read_text()
