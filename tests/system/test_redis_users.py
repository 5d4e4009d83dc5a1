"""Redis with users and TLS: the rights of deploy/redis-users.acl are enough, and a publisher reads nothing."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from builders import envelope_data
from celery import Celery
from conftest import Router, numbered, wait
from kombu.exceptions import OperationalError

from cli import redis_server, stack
from config.celery_settings import celery_settings
from config.settings import load

REPOSITORY = Path(__file__).resolve().parents[2]
USERS = ("web", "worker", "publisher", "operator")


def speaks_tls(binary: str) -> bool:
    """Whether a server was built with TLS."""
    command = [binary, "--port", "0", "--tls-port", str(redis_server.free_port())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    return "tls-cert-file" in done.stdout  # it misses the certificate, not the means


def tls_server() -> str | None:
    found = filter(None, (shutil.which(name) for name in ("redis-server", "valkey-server")))
    return next((binary for binary in found if speaks_tls(binary)), None)


def certificates(folder: Path) -> None:
    """A CA of the test's own, and certificates of it for the server and for clients."""

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj")
    openssl(*new, "/CN=test CA", "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt")
    for name in ("server", "client"):
        openssl(*new, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        signed = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial")
        openssl(*signed, "-days", "2", "-extfile", "names", "-out", f"{name}.crt")


class Guarded:
    """A Redis whose only way in is as one of the users."""

    def __init__(self, folder: Path, binary: str, *, tls: bool) -> None:
        self.folder, self.tls = folder, tls
        self.port = redis_server.free_port()
        rules = (REPOSITORY / "deploy/redis-users.acl").read_text()
        for user in USERS:
            rules = rules.replace(f"{user.upper()}_PASSWORD", f"{user}-secret")
        (folder / "users.acl").write_text(f"{rules}user admin on >admin-secret ~* &* +@all\n")
        options = ["--bind", "127.0.0.1", "--dir", str(folder), "--aclfile", str(folder / "users.acl"), "--save", ""]
        if tls:
            certificates(folder)
            options += ["--port", "0", "--tls-port", str(self.port), "--tls-ca-cert-file", "ca.crt"]
            options += ["--tls-cert-file", "server.crt", "--tls-key-file", "server.key", "--tls-auth-clients", "yes"]
        else:
            options += ["--port", str(self.port)]
        with (folder / "redis.log").open("wb") as log:
            self.process = subprocess.Popen([binary, *options], cwd=folder, stdout=log, stderr=log)
        wait(lambda: answers(self.url("admin")), 10, "Redis answers", self.process)

    def url(self, user: str, **changes: str) -> str:
        files = {"ssl_ca_certs": "ca.crt", "ssl_certfile": "client.crt", "ssl_keyfile": "client.key", **changes}
        query = "&".join(f"{name}={self.folder / file}" for name, file in files.items() if file)
        scheme, tail = ("rediss", f"?{query}") if self.tls else ("redis", "")
        return f"{scheme}://{user}:{user}-secret@127.0.0.1:{self.port}/0{tail}"

    def client(self, user: str) -> Any:
        return redis.Redis.from_url(self.url(user))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def answers(url: str) -> bool:
    try:
        return bool(redis.Redis.from_url(url).ping())
    except redis.RedisError:
        return False


class Flower:
    """Its API, as an operator asks it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def tasks(self) -> Any:
        return requests.get(f"{self.address}/api/tasks", auth=("u", "p"), timeout=5).json()


@pytest.fixture(params=["plain", "tls"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    tls = request.param == "tls"
    binary = tls_server() if tls else redis_server.binary()
    if binary is None:
        pytest.skip("no redis-server or valkey-server with TLS on the PATH: Redis over TLS was not tried")
    server = Guarded(tmp_path, binary, tls=tls)
    yield server
    server.close()


def denied(server: Guarded) -> list[str]:
    """What the server refused by its rules, as user and command."""
    log = server.client("admin").acl_log()
    return [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in log]


def test_the_router_runs_with_the_least_rights(guarded: Guarded, make_router: Callable[..., Router]) -> None:
    """Web, worker, publisher and Flower as users of their own: events flow, Flower shows them, nothing was denied."""
    router = make_router(METRICS_TOKEN="token")
    router.start_sandbox()
    router.start("web", stack.web_command(router.web_port), REDIS_URL=guarded.url("web"))
    wait(lambda: stack.answers(f"{router.web_url}/readyz"), 15, "the endpoint answers", router.processes["web"])
    router.start_worker(REDIS_URL=guarded.url("worker"))
    flower_port = redis_server.free_port()
    login = {"FLOWER_BASIC_AUTH": "u:p", "REDIS_URL": guarded.url("operator")}
    router.start("flower", stack.flower_command(flower_port), **login)
    ids = router.post_many(numbered(20))
    publisher = Celery(broker=guarded.url("publisher"), set_as_current=False)  # stock, as docs/publishing.md has it
    publisher.conf.task_default_queue = "events"
    publisher.send_task("events.publish", [envelope_data(id="p-1", source="billing")])

    router.environ["REDIS_URL"] = guarded.url("worker")
    assert {event.state for event in router.settled(ids, 30)} == {"delivered"}
    wait(lambda: router.connection.ledger.event("p-1") is not None, 10, "the published event is taken")
    router.settled(["p-1"], 10)
    scrape = requests.get(f"{router.web_url}/metrics", headers={"Authorization": "Bearer token"}, timeout=5)
    assert 'source="encharge",state="accepted"} 20.0' in scrape.text
    flower = f"http://127.0.0.1:{flower_port}"
    wait(lambda: stack.answers(f"{flower}/healthcheck"), 15, "Flower answers", router.processes["flower"])
    assert requests.get(f"{flower}/api/tasks", timeout=5).status_code == 401
    shown = Flower(flower)

    def tasks_shown() -> bool:
        router.post_many(numbered(1))  # Flower shows what happens from now on
        time.sleep(0.2)
        return bool(shown.tasks())

    wait(tasks_shown, 20, "Flower shows tasks")
    feed = router.folder / "feed.json"
    feed.write_text('[{"id": "1", "event": "Registered"}]')
    router.environ["REDIS_URL"] = guarded.url("web")
    assert "1 rows, 1 taken" in router.command("import", "activatepro", str(feed))
    router.environ["REDIS_URL"] = guarded.url("operator")
    assert "encharge" in router.command("ledger")
    router.command("dead", "list")
    assert denied(guarded) == []


def test_a_publisher_reads_nothing(guarded: Guarded) -> None:
    """Who may push tasks sees neither what others pushed, nor the ledger, nor anything of the server."""
    admin, publisher = guarded.client("admin"), guarded.client("publisher")
    admin.lpush("events", "task")
    admin.hset("router:event:e", "env", "{}")

    assert publisher.lpush("events", "mine") == 2
    for command in (
        ("LRANGE", "events", 0, -1),
        ("RPOP", "events"),
        ("BRPOP", "events", 1),
        ("LINDEX", "events", 0),
        ("HGETALL", "router:event:e"),
        ("LPUSH", "router:recent", "x"),
        ("EVAL", "return redis.call('LRANGE', 'events', 0, -1)", 0),
        ("KEYS", "*"),
        ("SCAN", 0),
        ("MONITOR",),
        ("CONFIG", "GET", "*"),
        ("CLIENT", "LIST"),
        ("FLUSHALL",),
        ("PUBLISH", "/0.celery.pidbox", "{}"),
        ("SUBSCRIBE", "/0.celeryev/*"),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            publisher.execute_command(*command)


def test_tls_is_verified(guarded: Guarded) -> None:
    """Without our CA, and without a certificate of its own, no client gets in; neither over kombu."""
    if not guarded.tls:
        assert not answers(guarded.url("admin").replace("admin-secret", "wrong"))
        return
    assert not answers(guarded.url("web", ssl_certfile="", ssl_keyfile=""))
    assert not answers(guarded.url("web", ssl_ca_certs=""))
    assert not answers(guarded.url("web").replace("rediss://", "redis://").partition("?")[0])
    bare = guarded.url("worker", ssl_ca_certs="", ssl_certfile="", ssl_keyfile="").rstrip("?")
    app = Celery(set_as_current=False)
    app.conf.update(celery_settings(load({"REDIS_URL": bare})))
    with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"), app.connection() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
