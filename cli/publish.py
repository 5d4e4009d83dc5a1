"""event-router publish: call tasks from a shell, as other teams' programs do."""

import dataclasses
import json
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO, Final

import click

from app.source import Refusal
from cli.incoming_events import values
from cli.redis_errors import told
from config.celery_settings import QUEUE
from config.settings import Settings, load
from tasks import contract, publishers, routing
from tasks.envelope import Envelope, without_addresses
from tasks.errors import QueueUnavailable
from tasks.ledger import connect, ledger_of
from tasks.messages import Call, Unusable, checked
from tasks.queue import PUBLISH_TASK, queue_for, redis_message

_TIMEOUT_S: Final = 5.0
#: Messages in one call to Redis.
_AT_ONCE: Final = 100


@dataclasses.dataclass(frozen=True)
class _Found:
    """One of the file's values, and what the router would make of it."""

    number: int  #: in the file, from 0
    id: str  #: of the task
    argument: Any
    events: Sequence[Envelope]
    error: str | None
    ignored: Sequence[str] = ()  #: keys that events have and that mean nothing to the router


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--task", default=PUBLISH_TASK, show_default=True, help="Task to call, once for each value of the file.")
@click.option("--publisher", help="Your name; shown as the source of the events.")
@click.option("--prefix", default="", help="What the keys of your own Redis user begin with, such as billing:.")
@click.option("--dry-run", is_flag=True, help="Say what would become of each, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="For programs: an object a line.")
@click.pass_obj
def publish(
    environ: dict[str, str],
    file: BinaryIO,
    task: str,
    publisher: str | None,
    prefix: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the events, or the arguments of a task, in FILE (JSON: one, a list, or one a line; - = standard input).

    Each is checked before the first is sent. When one is wrong none is sent, and the status is 1. REDIS_URL, or
    BROKER_URL, says where to; the user there needs no other right than a publisher's.
    """
    if task not in contract.TASKS:
        raise click.UsageError(f"there is no task {task}; the nearest is {contract.nearest(task)}")
    settings = load(environ)
    named = {"publisher": publisher} if publisher else {}
    known = publishers.load(settings.publishers_file, routing.source_names(settings.sources_file))
    _refuse_unread(known, prefix, settings)
    read = partial(
        contract.published,
        publisher=known.lists().get(f"{prefix}{QUEUE}"),
        now=datetime.now(UTC),
        reserved=known.reserved,
    )
    found = [_found(number, value, task, named, read) for number, value in enumerate(values(file))]
    wrong = sum(each.error is not None for each in found)
    routes = _routes(settings) if dry_run else None
    if not (dry_run or wrong):
        _send(settings, task, found, named, prefix)
    for each in found if dry_run or not wrong else [each for each in found if each.error is not None]:
        for line in _lines(each, routes, as_json=as_json):
            click.echo(line)
    click.echo(_sum(len(found), wrong, dry_run=dry_run), err=True)
    sys.exit(1 if wrong else 0)


def _refuse_unread(known: publishers.Publishers, prefix: str, settings: Settings) -> None:
    """Ends the command where nobody would ever read the list: what is pushed there is not even counted."""
    if f"{prefix}{QUEUE}" in known.lists():
        return
    there = ", ".join(each.prefix for each in known.known.values() if each.prefix) or "none"
    why = publishers.wrong_prefix(prefix) or "No publisher has this prefix."
    text = f"{prefix!r}. {why} There are: {there} (PUBLISHERS_FILE: {settings.publishers_file})"
    raise click.BadParameter(text, param_hint="--prefix")


def _sum(found: int, wrong: int, *, dry_run: bool) -> str:
    if wrong:
        return f"{wrong} of {found} are wrong; nothing was sent"
    return f"{found} would be sent; nothing was" if dry_run else f"{found} sent"


def _found(
    number: int, value: Any, task: str, named: dict[str, str], read: Callable[[Call], contract.Published]
) -> _Found:
    """What the router would make of one value."""
    task_id = str(uuid.uuid4())
    if isinstance(value, Refusal):
        return _Found(number, task_id, None, (), value.message)
    if not isinstance(value, dict):
        return _Found(number, task_id, value, (), "must be a JSON object")
    try:
        checked(redis_message(task, [value], named, task_id=task_id, shadow=None, argsrepr=""))
        events = read(Call(task, task_id, [value], named)).events
    except Unusable as unusable:
        return _Found(number, task_id, value, (), str(unusable))
    errors = [each.error for each in events if not isinstance(each, Envelope)]
    good = [each for each in events if isinstance(each, Envelope)]
    ignored = contract.ignored(value) if task == PUBLISH_TASK else ()
    return _Found(number, task_id, value, good, "; ".join(errors) if errors else None, ignored)


def _send(settings: Settings, task: str, found: Sequence[_Found], named: dict[str, str], prefix: str) -> None:
    queue = queue_for(settings, ledger_of(settings, connect(settings.redis_url, timeout_s=_TIMEOUT_S)))
    sent = 0
    for first in range(0, len(found), _AT_ONCE):
        some = found[first : first + _AT_ONCE]
        try:
            queue.publish(task, {each.id: each.argument for each in some}, named, prefix)
        except QueueUnavailable as error:
            why = told(error, settings.redis_url) or f"the broker does not take them ({error})"
            text = f"{why}; sent so far: {sent} of {len(found)}, in the order of the file"
            raise click.ClickException(text) from error
        sent += len(some)


def _routes(settings: Settings) -> routing.Routes:
    return routing.load(settings.routes_file, routing.names(settings.sources_file, settings.publishers_file))


def _lines(found: _Found, routes: routing.Routes | None, *, as_json: bool) -> Iterator[str]:
    if found.error is not None:
        wrong = {"number": found.number, "error": found.error}
        yield json.dumps(wrong) if as_json else f"{found.number}: wrong: {found.error}"
    if routes is not None and found.ignored:
        keys = [without_addresses(key) for key in found.ignored]
        ignored = {"number": found.number, "ignored": keys}
        yield json.dumps(ignored) if as_json else f"{found.number}: ignored: {', '.join(keys)}"
    for event in found.events:
        ways = None if routes is None else [route.name for route in routes.match(event)]
        row = {"number": found.number, "id": event.id, "source": event.source}
        if as_json:
            yield json.dumps(row if ways is None else {**row, "routes": ways})
        else:
            along = "" if ways is None else f"  → {', '.join(ways) or 'no route: filtered'}"
            yield f"{found.number}: {event.id}  {event.shown}{along}"
