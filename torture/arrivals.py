"""What arrived at the destinations, out of the calls that the sandbox noted."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from torture.events import API, INGEST

_PATHS: Final[Mapping[str, str]] = {"/ingest/v1/": INGEST, "/api/v1/tags": API}


@dataclasses.dataclass(frozen=True)
class Arrival:
    """One call that a destination worked on."""

    seq: int  #: order over both destinations
    at: float  #: Unix time
    destination: str
    subject: int
    number: int
    answered_after_s: float | None  #: 0 = at once, None = the worker was not told that it was done
    status: int


def arrivals(calls: Iterable[Mapping[str, Any]]) -> list[Arrival]:
    """The calls that carry one of our events, in their order."""
    found = []
    for call in calls:
        destination = _PATHS.get(call["path"])
        if destination is None:
            continue
        body = json.loads(call["body"])
        tag = body["tag"] if destination == API else body["properties"]["tag"]
        subject, _, number = tag.partition("-")
        found.append(
            Arrival(
                seq=call["seq"],
                at=datetime.fromisoformat(call["at"]).timestamp(),
                destination=destination,
                subject=int(subject),
                number=int(number),
                answered_after_s=call["answeredAfterS"],
                status=call["status"],
            )
        )
    return found


def good(arrival: Arrival) -> bool:
    """Whether the destination did what it was asked."""
    return arrival.status < HTTPStatus.MULTIPLE_CHOICES
