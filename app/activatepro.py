"""POST /events, as ActivatePro's API has it: who sends to api.crossengage.io can send here by changing the host.

https://docs.crossengage.io (Events API): up to 50 events of one user, the master key in X-XNG-AuthToken. Answers: 202
without a body; 400 {"field", "type"} for the first mistake, and then nothing of the request was taken; 401 without a
body. Senders are told to repeat what was answered 5xx. Which source it is, the token says. Names of events are not
looked up: there is nothing to declare them in.
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from app import body as bodies
from app.doors import Answer, not_taken
from app.incoming import Incoming
from app.intake import Intake
from app.source import Refusal, Source
from app.sources import activatepro
from app.sources.activatepro import MALFORMED, MISSING, MOST_OF_ONE_USER
from tasks.envelope import Envelope, Rejected
from tasks.errors import QueueFull, QueueUnavailable

PREFIX: Final = "/events"
_TOO_MANY: Final = "WRONG_VALUE"


class Events:
    """The door for senders that speak ActivatePro's API."""

    def __init__(self, sources: Mapping[str, Source], intake: Intake) -> None:
        self._sources = [source for source in sources.values() if source.unwrap is activatepro.unwrap]
        self._intake = intake

    def __call__(self, incoming: Incoming, _path: str) -> Answer:
        """Take the events of one request, all of them or none. Raises Refusal."""
        incoming.request_id = str(uuid.uuid4())
        if not self._sources:
            raise Refusal(404, "not_found", "there is no such call")
        if incoming.method != "POST":
            raise Refusal(405, "method_not_allowed", "events are posted", {"Allow": "POST"})
        source = self._source(incoming.header("X_XNG_AUTHTOKEN"))
        incoming.source = source.name
        self._take(source, incoming)
        return Answer(202, None, {"X-Request-ID": incoming.request_id})

    def refused(self, refusal: Refusal, incoming: Incoming) -> Answer:
        """A refusal in ActivatePro's form: of a request that must change, what in it; else nothing but the status."""
        headers = {**refusal.headers, "X-Request-ID": incoming.request_id or ""}
        if refusal.status not in {400, 411, 413, 415}:
            return Answer(refusal.status, None, headers)
        field, _, mistake = refusal.code.partition(":")
        told = {"field": field, "type": mistake} if mistake else {"field": "body", "type": MALFORMED}
        return Answer(refusal.status, told, headers)

    def _source(self, token: str) -> Source:
        known = [source for source in self._sources if source.knows([token])]
        if not known:
            raise Refusal(401, "unauthorized", "no source has this token")
        return known[-1]

    def _take(self, source: Source, incoming: Incoming) -> None:
        body = bodies.parse(bodies.read(incoming, source.max_body_bytes), source.max_depth)
        events = _unwrapped(source.name, body)
        try:
            self._intake.take(source, events, whole=True)
        except (QueueFull, QueueUnavailable) as error:
            raise not_taken(error, full=503) from None


def _unwrapped(source: str, body: Any) -> list[Envelope | Rejected]:
    """The events of one user. Raises Refusal(400) with the first mistake as its code: "event:NOT_NULL"."""
    if not isinstance(body, dict):
        raise Refusal(400, f"body:{MALFORMED}", "the body must be a JSON object")
    events = body.get("events")
    if not events:
        raise Refusal(400, f"events:{MISSING}", "there must be events")
    if not isinstance(events, list):
        raise Refusal(400, f"events:{MALFORMED}", "events must be a list")
    if len(events) > MOST_OF_ONE_USER:
        raise Refusal(400, f"events:{_TOO_MANY}", f"one request carries more than {MOST_OF_ONE_USER} events")
    several = {key: value for key, value in body.items() if key != "event"}
    taken: list[Envelope | Rejected] = []
    for each in activatepro.unwrap(source, several, None, datetime.now(UTC)):
        if isinstance(each, Rejected):
            raise Refusal(400, each.code, each.error)
        taken.append(each)
    return taken
