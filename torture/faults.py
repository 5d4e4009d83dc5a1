"""The faults: what each does to the router, and how it ends."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import redis

from torture.plan import Kind, Planned
from torture.proxy import Proxy
from torture.router import GRACE_S, READ_TIMEOUT_S, WEBS, WORKERS, Router

_SENDERS: Final = tuple(f"sender-{web}" for web in WEBS)
_APIS: Final[Mapping[str, str]] = {"ingest": "/ingest/", "api": "/api/"}
CLOCK: Final = "clock"
#: Debian's package libfaketime, by architecture; MT = for programs with threads.
_FAKETIME: Final = "/usr/lib/*/faketime/libfaketimeMT.so.1"
_LARGE: Final = 20_480
_JUNK: Final = "torture:junk"
_JUNK_BYTES: Final = 4 * 1024 * 1024
_JUNK_STEP: Final = 256 * 1024

#: Begins when entered, ends when left; what it gives is a remark for the report.
Fault = Callable[[Router, Planned], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def _killed(router: Router, fault: Planned) -> Iterator[str]:
    router.kill(fault.target)
    yield ""
    router.bring_back(fault.target)


@contextlib.contextmanager
def _terminated(router: Router, fault: Planned) -> Iterator[str]:
    yield "" if router.terminate(fault.target, GRACE_S) else f"did not end within {GRACE_S:g} s of TERM, killed"
    router.bring_back(fault.target)


@contextlib.contextmanager
def _frozen(router: Router, fault: Planned) -> Iterator[str]:
    router.freeze(fault.target)
    yield ""
    router.thaw(fault.target)


@contextlib.contextmanager
def _other_clock(router: Router, fault: Planned) -> Iterator[str]:
    minutes = (1 if fault.roll < 0.5 else -1) * (1 + int(fault.roll * 8))  # noqa: PLR2004 - half of all
    router.kill(fault.target)
    router.bring_back(fault.target, LD_PRELOAD=_faketime(), FAKETIME=f"{minutes:+d}m", DONT_FAKE_MONOTONIC="1")
    yield f"{minutes:+d} min"
    router.kill(fault.target)
    router.bring_back(fault.target)


@contextlib.contextmanager
def _redis_killed(router: Router, _: Planned) -> Iterator[str]:
    router.kill_redis()
    yield ""
    router.restart_redis()


@contextlib.contextmanager
def _spool_full(router: Router, _: Planned) -> Iterator[str]:
    """Redis is away for long, and what comes meanwhile is large."""
    router.kill_redis()
    router.padding = _LARGE
    yield f"events of {_LARGE >> 10} KiB and more"
    router.padding = 0
    router.restart_redis()


@contextlib.contextmanager
def _redis_full(router: Router, _: Planned) -> Iterator[str]:
    control = router.control
    used = router.insist(lambda: control.info("memory")["used_memory"])
    router.insist(lambda: control.config_set("maxmemory", used + _JUNK_BYTES))
    filled = 0
    try:
        with contextlib.suppress(redis.RedisError):
            while True:
                control.append(_JUNK, b"x" * _JUNK_STEP)
                filled += _JUNK_STEP
        yield f"{filled >> 10} KiB of junk until it was full"
    finally:
        router.insist(lambda: control.config_set("maxmemory", 0))
        router.insist(lambda: control.delete(_JUNK))


@contextlib.contextmanager
def _clients_killed(router: Router, _: Planned) -> Iterator[str]:
    killed = router.insist(lambda: router.control.execute_command("CLIENT", "KILL", "TYPE", "normal"))
    yield f"{killed} connections"


@contextlib.contextmanager
def _clients_paused(router: Router, fault: Planned) -> Iterator[str]:
    mode = "ALL" if fault.roll < 0.5 else "WRITE"  # noqa: PLR2004 - half of all
    router.insist(lambda: router.control.execute_command("CLIENT", "PAUSE", int(fault.hold_s * 1000), mode))
    yield mode


def _link(begin: Callable[[Proxy, Planned], None]) -> Fault:
    """A fault of one connection's proxy."""

    @contextlib.contextmanager
    def run(router: Router, fault: Planned) -> Iterator[str]:
        proxy = router.links[fault.target]
        begin(proxy, fault)
        yield f"{proxy.connections} connections"
        proxy.restore()

    return run


def _refuse(proxy: Proxy, _: Planned) -> None:
    proxy.refuse()
    proxy.cut()


def _misbehaving(rule: Callable[[Planned], Mapping[str, Any]]) -> Fault:
    """A fault of one destination, for some of its requests."""

    @contextlib.contextmanager
    def run(router: Router, fault: Planned) -> Iterator[str]:
        rules = {"path": _APIS[fault.target], **rule(fault)}
        router.misbehave(fault.target, [rules])
        yield " ".join(f"{name}={value}" for name, value in rules.items())
        router.misbehave(fault.target, [])

    return run


def _often(fault: Planned) -> dict[str, Any]:
    """Half of the requests at least; by half of the faults after the work was done."""
    return {"rate": round(0.5 + fault.roll / 2, 2), "after": fault.roll * 10 % 1 < 0.5}  # noqa: PLR2004 - half of all


@dataclasses.dataclass(frozen=True)
class Known:
    """A kind of fault and what carries it out."""

    kind: Kind
    run: Fault


_PROCESS_START_S: Final = 8.0
_AT_ONCE: Final = (0.0, 0.0)
_A_WHILE: Final = (0.5, 6.0)
#: A half-open connection is to be noticed within this.
_NOTICED_S: Final = 15.0
#: Name, how long it is held, how long its consequences may go on, and how it begins.
_LINK_FAULTS: Final[tuple[tuple[str, tuple[float, float], float, Callable[[Proxy, Planned], None]], ...]] = (
    ("cut", _AT_ONCE, 2.0, lambda proxy, _: proxy.cut()),
    ("refuse", _A_WHILE, 2.0, _refuse),
    ("pause", _A_WHILE, 2.0, lambda proxy, _: proxy.pause()),
    ("answers-late", _A_WHILE, 2.0, lambda proxy, _: proxy.pause(only_answers=True)),
    ("half-open", _AT_ONCE, _NOTICED_S, lambda proxy, _: proxy.swallow()),
    ("answers-lost", _AT_ONCE, _NOTICED_S, lambda proxy, _: proxy.swallow(only_answers=True)),
    ("slow", _A_WHILE, 2.0, lambda proxy, fault: proxy.delay(0.02 + fault.roll / 5)),
)


def _known() -> Iterator[Known]:
    yield Known(Kind("worker.kill", WORKERS, (0, 3), _PROCESS_START_S, doubles=True), _killed)
    yield Known(Kind("worker.term", WORKERS, (0, 2), _PROCESS_START_S), _terminated)
    # As a machine that is suspended, or swaps: longer than a lease, and then it goes on as if nothing had been.
    yield Known(Kind("worker.freeze", WORKERS, (4, 9), doubles=True), _frozen)
    yield Known(Kind("web.freeze", WEBS, (1, 8)), _frozen)
    yield Known(Kind(CLOCK, (*WORKERS, *WEBS), (4, 8), _PROCESS_START_S * 2, doubles=True), _other_clock)
    yield Known(Kind("web.kill", WEBS, (0, 3), 3.0), _killed)
    yield Known(Kind("redis.kill", ("redis",), (0, 2), doubles=True), _redis_killed)
    yield Known(Kind("spool.full", ("redis",), (5, 8), doubles=True), _spool_full)
    yield Known(Kind("redis.full", ("redis",), (2, 6), doubles=True), _redis_full)
    yield Known(Kind("redis.client-kill", ("redis",), (0, 0), doubles=True), _clients_killed)
    yield Known(Kind("redis.client-pause", ("redis",), (1, 5), doubles=True), _clients_paused)
    for who, targets, doubles in (("worker", WORKERS, True), ("web", WEBS, False), ("sender", _SENDERS, False)):
        for what, hold_s, lingers_s, begin in _LINK_FAULTS:
            yield Known(Kind(f"{who}.{what}", targets, hold_s, 2.0, doubles, lingers_s), _link(begin))
    api = tuple(_APIS)
    yield Known(Kind("destination.fail", api, (1, 5)), _misbehaving(lambda f: {"status": [500, 503], **_often(f)}))
    yield Known(
        Kind("destination.throttle", api, (1, 5)),
        _misbehaving(lambda f: {"status": 429, "retry_after": 1, "rate": _often(f)["rate"]}),
    )
    yield Known(
        Kind("destination.hang", api, (1, 4)),
        _misbehaving(lambda f: {"kind": "hang", "delay_s": READ_TIMEOUT_S * 2, **_often(f)}),
    )
    yield Known(Kind("destination.reset", api, (1, 5)), _misbehaving(lambda f: {"kind": "reset", **_often(f)}))
    yield Known(
        Kind("destination.slow", api, (2, 6)),
        _misbehaving(lambda f: {"kind": "delay", "delay_s": round(f.roll, 2), **_often(f)}),
    )


def known() -> dict[str, Known]:
    """Every fault, by name, possible on this machine or not: a seed is to mean the same everywhere."""
    return {each.kind.name: each for each in _known()}


def clock_possible() -> bool:
    """Whether processes can be given another clock here."""
    return bool(_faketime())


def _faketime() -> str:
    root, pattern = _FAKETIME[:1], _FAKETIME[1:]
    return next((str(path) for path in sorted(Path(root).glob(pattern))), "")
