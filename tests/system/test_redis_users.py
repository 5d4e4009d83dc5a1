"""Redis with users and TLS: the rights of deploy/redis-users.acl are enough, and a publisher's as documented."""

import json
import re
import shlex
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
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
from tasks import publishers

REPOSITORY = Path(__file__).resolve().parents[2]
#: User → the word that stands for its password.
USERS = {
    "web": "WEB_PASSWORD",
    "worker": "WORKER_PASSWORD",
    "publisher": "PUBLISHER_PASSWORD",
    "publisher-replies": "REPLIES_PASSWORD",
    "billing": "BILLING_PASSWORD",
    "operator": "OPERATOR_PASSWORD",
    "admin": "ADMIN_PASSWORD",
}
#: Keys of every kind that there is in the router's Redis, and one that is nobody's.
KEYS = (
    *publishers.keys_of("events"),
    *publishers.keys_of("billing:events"),
    *("events\x06\x165", "events.tickets", "events.alive.worker", "other:events", "anything"),
    *("router:event:e", "router:counts", "router:quarantine", "router:quarantine:q", "router:scheduled"),
    *("celery-task-meta-t", "billing:celery-task-meta-t", "unacked", "unacked_index", "0.reply.celery.pidbox"),
    *("_kombu.binding.events", "_kombu.binding_permanent.events", "_kombu.binding.celeryev", "_kombu.binding.events.x"),
    *("billing:_kombu.binding.events", "billing:_kombu.binding_permanent.events", "billing:router:event:e"),
)


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
        for user, word in USERS.items():
            assert rules.count(f">{word} ") == 1
            rules = rules.replace(f">{word} ", f">{user}-secret ")
        rules = rules.replace(" off >", " on >")
        (folder / "users.acl").write_text(rules)
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


def client_of(server: Guarded, user: str, **options: str) -> Celery:
    """A stock client, as docs/publishing.md has it."""
    backend = server.url(user) if user == "publisher-replies" else None
    client = Celery(broker=server.url(user), backend=backend, set_as_current=False)
    client.conf.task_default_queue = "events"
    client.conf.broker_transport_options = options
    return client


def test_the_router_runs_with_the_least_rights(guarded: Guarded, make_router: Callable[..., Router]) -> None:
    """Web, worker, publisher and Flower as users of their own: events flow, Flower shows them, nothing was denied."""
    (guarded.folder / "publishers.yaml").write_text('version: 1\npublishers:\n  billing: {prefix: "billing:"}\n')
    router = make_router(METRICS_TOKEN="token", PUBLISHERS_FILE=str(guarded.folder / "publishers.yaml"))
    router.start_sandbox()
    router.start("web", stack.web_command(router.web_port), REDIS_URL=guarded.url("web"))
    wait(lambda: stack.answers(f"{router.web_url}/readyz"), 15, "the endpoint answers", router.processes["web"])
    router.start_worker(REDIS_URL=guarded.url("worker"))
    flower_port = redis_server.free_port()
    login = {"FLOWER_BASIC_AUTH": "u:p", "REDIS_URL": guarded.url("operator")}
    router.start("flower", stack.flower_command(flower_port), **login)
    ids = router.post_many(numbered(20))
    client_of(guarded, "publisher").send_task("events.publish", [envelope_data(id="p-1", source="shop")])
    client_of(guarded, "publisher").send_task("events.publish", [envelope_data(id="p-2", source="billing")])
    tag = {"email": "someone@example.com", "tag": "vip", "event_id": "p-3"}
    client_of(guarded, "billing", global_keyprefix="billing:").send_task("users.tag", kwargs=tag, priority=6)
    asked = client_of(guarded, "publisher-replies").send_task(
        "users.tag", kwargs={**tag, "event_id": "p-4", "reply": True}
    )

    router.environ["REDIS_URL"] = guarded.url("worker")
    assert {event.state for event in router.settled(ids, 30)} == {"delivered"}
    wait(lambda: router.connection.ledger.event("p-4") is not None, 10, "the published event is taken")
    router.settled(["p-1", "p-3", "p-4"], 10)
    assert asked.get(timeout=10) == {"p-4": "delivered"}
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
    router.command("events", "list")
    shown_as = {id_: json.loads(router.command("events", "show", id_, "--json")) for id_ in ("p-1", "p-3", "p-4")}
    assert [each["source"] for each in shown_as.values()] == ["shop", "billing", "published"]
    # Under somebody else's name: a dead letter of an id of its own.
    assert "p-2:invalid-" in router.command("events", "show", "p-2")
    assert denied(guarded) == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One without TLS, for tests that only ask who may do what."""
    server = Guarded(tmp_path_factory.mktemp("redis"), redis_server.binary(), tls=False)
    yield server
    server.close()


@pytest.fixture
def plain(shared: Guarded) -> Guarded:
    """The same, empty."""
    shared.client("admin").flushall()
    return shared


def documented(user: str) -> dict[str, list[str]]:
    """Command → patterns of what it may be called with, as docs/security.md tells of a publisher."""
    page = (REPOSITORY / "docs/security.md").read_text()
    rows = re.findall(
        r"^\| (`.*?) \| (.*?) ?\| (.*?) \|", page.split("### What a publisher may do")[1].split("###")[0], re.MULTILINE
    )
    table: dict[str, list[str]] = {}
    for commands, keys, what_for in rows:
        if user == "publisher-replies" or "only `publisher-replies`" not in what_for:
            of_user = [f"billing:{key}" if user == "billing" else key for key in re.findall("`(.*?)`", keys)]
            table |= {command.lower().replace(" ", "|"): of_user for command in re.findall("`(.*?)`", commands)}
    return table


def every_command(server: Guarded) -> list[Any]:
    """What the server says of each of its commands, those within others too."""
    # In RESP3 and unparsed: redis-py keeps but a part of it.
    connection = server.client("admin").connection_pool.get_connection()
    connection.send_command("COMMAND")
    commands = connection.read_response()
    connection.disconnect()
    return [each for command in commands for each in (command[9] or [command])]


def call(command: Any, key: str) -> list[str]:
    """A call that has the key wherever the command can have one: it is to be understood, not to be useful."""
    words = command[0].decode().split("|")
    args = [key] * (abs(command[1]) - len(words))
    for spec in command[8]:
        begin, find = spec[b"begin_search"], spec[b"find_keys"]
        if begin[b"type"] == b"keyword":
            args += [begin[b"spec"][b"keyword"].decode(), key, key]
        elif find[b"type"] == b"keynum":
            at = begin[b"spec"][b"index"] - len(words) + find[b"spec"][b"keynumidx"]
            args += [key] * (at + 2 - len(args))
            args[at] = "1"
    return [*words, *args]


@pytest.mark.parametrize("user", ["publisher", "publisher-replies", "billing"])
def test_every_command_with_every_kind_of_key(plain: Guarded, user: str) -> None:
    """Of all that the server knows, a publisher may call what the table in docs/security.md has, and nothing else."""
    tries = [(command, key) for command in every_command(plain) for key in KEYS]
    pipe = plain.client("admin").pipeline(transaction=False)
    for command, key in tries:
        pipe.execute_command("ACL", "DRYRUN", user, *call(command, key))
    allowed: dict[str, set[str]] = defaultdict(set)
    for (command, key), answer in zip(tries, pipe.execute(raise_on_error=False), strict=True):
        if answer == b"OK":
            allowed[command[0].decode()].add(key)
        else:
            assert b"has no permissions to" in answer, (command[0], answer)  # else the call was not understood

    assert len(tries) > 300 * len(KEYS)
    table = documented(user)
    assert allowed == {
        command: {key for key in KEYS if not patterns or any(fnmatchcase(key, pattern) for pattern in patterns)}
        for command, patterns in table.items()
    }


@pytest.mark.parametrize("prefix", ["", "billing:"])
def test_stock_celery_publishes(plain: Guarded, prefix: str) -> None:
    """With the least rights, with priorities and for later; with a prefix into a list of its own, and into no other."""
    user = "billing" if prefix else "publisher"
    app = client_of(plain, user, **({"global_keyprefix": prefix} if prefix else {}))
    for options in ({}, {"priority": 3}, {"priority": 6}, {"priority": 9}, {"countdown": 60, "expires": 90}):
        app.send_task("users.tag", kwargs={"tag": "vip", "email": "someone@example.com"}, **options)
    app.close()
    other = plain.client(user)
    assert other.lpush(f"{prefix}events", "whatever a client of another kind writes") == 3

    admin = plain.client("admin")
    found = {key.decode(): admin.llen(key) for key in admin.scan_iter(f"{prefix}events*")}
    assert found == {f"{prefix}events": 3, **{f"{prefix}events\x06\x16{step}": 1 for step in (3, 6, 9)}}
    with pytest.raises(redis.exceptions.NoPermissionError):
        other.lpush("events" if prefix else "billing:events", "x")


def test_a_publisher_waits_for_its_result(plain: Guarded) -> None:
    """The user with replies reads the results of tasks that it knows; who has none of its rights does not."""
    app = client_of(plain, "publisher-replies")
    sent = app.send_task("users.tag", kwargs={"tag": "vip"})
    told = json.dumps(
        {"task_id": sent.id, "status": "SUCCESS", "result": "delivered", "traceback": None, "children": []}
    )
    worker = plain.client("worker")
    worker.set(f"celery-task-meta-{sent.id}", told, ex=60)
    worker.publish(f"celery-task-meta-{sent.id}", told)

    assert sent.get(timeout=5) == "delivered"
    app.close()
    with pytest.raises(redis.exceptions.NoPermissionError):
        plain.client("publisher").get(f"celery-task-meta-{sent.id}")
    with pytest.raises(redis.exceptions.NoPermissionError):
        plain.client("publisher-replies").execute_command("PSUBSCRIBE", "celery-task-meta-*")


def test_the_user_that_the_page_makes(plain: Guarded) -> None:
    """The command of docs/security.md makes the user of the file, for a team of another name."""
    page = (REPOSITORY / "docs/security.md").read_text()
    (made,) = re.findall(
        r"^    redis-cli -u redis://admin:…@redis:6379/0 (ACL SETUSER billing(?:.*\\\n)*.*)$", page, re.MULTILINE
    )
    admin = plain.client("admin")
    before = admin.acl_getuser("billing")
    words = shlex.split(made.replace("\\\n", " ").replace("billing", "crm").replace("PASSWORD", "crm-secret"))
    admin.execute_command(*words)

    crm = admin.acl_getuser("crm")
    assert str(crm["selectors"]).replace("crm:", "billing:") == str(before["selectors"])
    assert [crm[name] for name in ("commands", "categories", "keys", "channels", "flags")] == [
        before[name] for name in ("commands", "categories", "keys", "channels", "flags")
    ]


REFUSED: tuple[Sequence[str | int], ...] = (
    *(("LRANGE", "events", 0, -1), ("LINDEX", "events", 0), ("LPOS", "events", "task"), ("RPOP", "events")),
    *(("BRPOP", "events", 1), ("LMOVE", "events", "events", "LEFT", "RIGHT"), ("RPOPLPUSH", "events", "events")),
    *(("LTRIM", "events", 1, 0), ("LREM", "events", 0, "task"), ("LSET", "events", 0, "x"), ("RPUSH", "events", "x")),
    *(("DEL", "events"), ("UNLINK", "events"), ("EXPIRE", "events", 1), ("RENAME", "events", "mine")),
    *(("TYPE", "events"), ("EXISTS", "events"), ("OBJECT", "FREQ", "events"), ("DUMP", "events"), ("SORT", "events")),
    *(("COPY", "events", "mine"), ("MEMORY", "USAGE", "events"), ("SADD", "events", "x"), ("TOUCH", "events")),
    *(("LPUSH", "events.tickets", "x"), ("LPUSH", "router:recent", "x"), ("LPUSH", "events.alive.worker", "x")),
    *(("LLEN", "events.tickets"), ("LLEN", "router:recent"), ("LPUSH", "_kombu.binding.events", "x")),
    *(("HGETALL", "router:event:e"), ("SMEMBERS", "_kombu.binding.events"), ("GET", "celery-task-meta-t")),
    *(("MIGRATE", "127.0.0.1", 1, "events", 0, 1), ("RESTORE", "events", 0, "x"), ("KEYS", "*"), ("SCAN", 0)),
    *(("EVAL", "return redis.call('LRANGE', 'events', 0, -1)", 0), ("SCRIPT", "LOAD", "return 1")),
    *(("FUNCTION", "LIST"), ("FCALL", "f", 0), ("SUBSCRIBE", "/0.celeryev/x"), ("PSUBSCRIBE", "*")),
    *(
        ("PUBLISH", "/0.celery.pidbox", "{}"),
        ("PUBSUB", "CHANNELS"),
        ("MONITOR",),
        ("INFO",),
        ("DBSIZE",),
        ("WAIT", 0, 1),
    ),
    *(("CONFIG", "GET", "*"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "TYPE", "normal"), ("CLIENT", "TRACKING", "ON")),
    *(("ACL", "LIST"), ("ACL", "WHOAMI"), ("SLOWLOG", "GET"), ("FLUSHALL",)),
    *(("SELECT", 1), ("SWAPDB", 0, 1), ("SHUTDOWN",), ("REPLICAOF", "127.0.0.1", 1), ("BGSAVE",), ("SYNC",)),
    *(("XREAD", "STREAMS", "events", 0), ("GETDEL", "celery-task-meta-t"), ("WATCH", "events"), ("COMMAND", "COUNT")),
)


def test_a_publisher_reads_nothing(plain: Guarded) -> None:
    """Who may push tasks sees neither what others pushed, nor the ledger, nor anything of the server; really tried."""
    admin, publisher = plain.client("admin"), plain.client("publisher")
    admin.lpush("events", "task")
    admin.hset("router:event:e", "env", "{}")
    admin.set("celery-task-meta-t", "{}")
    before = {key: admin.dump(key) for key in admin.scan_iter()}

    for command in REFUSED:
        with pytest.raises(redis.exceptions.NoPermissionError):
            publisher.execute_command(*command)
    with publisher.pipeline(transaction=True) as pipe, pytest.raises(redis.exceptions.NoPermissionError):
        pipe.lrange("events", 0, -1).execute()
    connection = publisher.connection_pool.get_connection()
    connection.send_command("RESET")  # takes the user away, and gives none
    assert connection.read_response() == b"RESET"
    connection.send_command("LRANGE", "events", 0, -1)
    with pytest.raises(redis.exceptions.RedisError):
        connection.read_response()
    assert {key: admin.dump(key) for key in admin.scan_iter()} == before
    assert publisher.lpush("events", "mine") == 2


def test_nobody_spoils_the_list(plain: Guarded) -> None:
    """An empty list is no key: whoever could make a set of it would shut everybody out, the workers too."""
    for user in ("publisher", "publisher-replies", "billing"):
        for command in (("SADD", "events", "x"), ("LPUSH", "_kombu.binding.events", "x")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                plain.client(user).execute_command(*command)
    assert plain.client("admin").dbsize() == 0


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
