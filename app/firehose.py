"""POST /firehose/<source>: Amazon Data Firehose, which brings the records of a stream to an HTTP endpoint.

Format: https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html. A request carries up to 10,000
records and is answered as a whole. Whatever the answer is but 200 with exactly two fields, all of it comes again; but
what is answered 413 is dropped for good, so we never say that. Setting it up, and what each answer means:
docs/firehose.md.
"""

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from app import body as bodies
from app import records
from app.doors import Answer, not_taken
from app.incoming import Incoming
from app.intake import Intake
from app.records import Broken
from app.source import Refusal, Source
from tasks.envelope import Envelope, Rejected
from tasks.errors import QueueFull, QueueUnavailable

log: Final = structlog.get_logger("app.firehose")

PREFIX: Final = "/firehose/"
_VERSION: Final = "1.0"
_LOST: Final = 413
_MOST_RECORDS: Final = 10_000
#: Characters of a record's base64, which is 1,024,000 bytes of data.
_MOST_OF_A_RECORD: Final = 1_365_336
_MOST_ATTRIBUTES: Final = 50
_MOST_OF_A_NAME: Final = 256
_MOST_OF_AN_ATTRIBUTE: Final = 1024
_MOST_OF_A_REQUEST_ID: Final = 200
_MOST_OF_A_BODY: Final = 64 * 1024 * 1024


class Firehose:
    """The door for Firehose; its access key is one of the source's secrets."""

    def __init__(self, sources: Mapping[str, Source], intake: Intake) -> None:
        self._sources = {name: source for name, source in sources.items() if source.secrets and not source.signed}
        self._intake = intake

    def __call__(self, incoming: Incoming, path: str) -> Answer:
        """Take one request. Raises Refusal."""
        incoming.request_id = incoming.header("X_AMZ_FIREHOSE_REQUEST_ID") or None
        source = self._sources.get(name := path.rstrip("/"))
        if source is None or source.unwrap is None:
            raise Refusal(404, "unknown_source", "there is no source of this name with secrets of its own")
        incoming.source = name
        self._receive(source, incoming)
        return Answer(200, _said(incoming))

    def refused(self, refusal: Refusal, incoming: Incoming) -> Answer:
        """Firehose reads refusals in a form of its own; and what is answered 413 is lost, so that is 400 here."""
        status = 400 if refusal.status == _LOST else refusal.status
        incoming.drop(_MOST_OF_A_BODY)
        data = {**_said(incoming), "errorMessage": f"{refusal.code}: {refusal.message}"}
        return Answer(status, data, refusal.headers)

    def _receive(self, source: Source, incoming: Incoming) -> None:
        if incoming.method != "POST":
            raise Refusal(405, "method_not_allowed", "records are posted", {"Allow": "POST"})
        if not source.knows(_keys(incoming.header("X_AMZ_FIREHOSE_ACCESS_KEY"))):
            raise Refusal(401, "unauthorized", "X-Amz-Firehose-Access-Key is no secret of this source")
        if incoming.header("X_AMZ_FIREHOSE_PROTOCOL_VERSION") not in {"", _VERSION}:
            raise Refusal(400, "unsupported_version", f"X-Amz-Firehose-Protocol-Version must be {_VERSION}")
        _check_attributes(incoming.header("X_AMZ_FIREHOSE_COMMON_ATTRIBUTES"))
        found = _records(bodies.parse(bodies.read(incoming, source.max_request_bytes), source.max_depth), incoming)
        try:
            fresh = self._intake.take(source, _events(found, source, incoming, datetime.now(UTC)))
        except (QueueFull, QueueUnavailable) as error:
            raise not_taken(error, full=503) from None
        log.info(
            "firehose.taken",
            source=source.name,
            request_id=incoming.request_id,
            records=len(found),
            events=len(fresh),
            new=sum(fresh),
        )


def _said(incoming: Incoming) -> dict[str, Any]:
    """The two fields of every answer: any third makes Firehose send it all again, and so does a time that is text."""
    return {"requestId": incoming.request_id or "", "timestamp": int(time.time() * 1000)}


def _keys(header: str) -> list[str]:
    """What may be the secret: the access key as it was configured, or out of what Secrets Manager keeps."""
    try:
        kept = json.loads(header) if header.startswith("{") else None
    except (ValueError, RecursionError):
        kept = None
    key = kept.get("api_key") if isinstance(kept, dict) else None
    return [header, key] if isinstance(key, str) else [header]


def _check_attributes(header: str) -> None:
    """Refuse common attributes as Firehose cannot have sent them. They say nothing that a source's name does not."""
    if not header:
        return
    try:
        given = json.loads(header.encode("latin-1", "replace"))["commonAttributes"]
        right = len(given) <= _MOST_ATTRIBUTES and all(
            0 < len(name) <= _MOST_OF_A_NAME and isinstance(value, str) and len(value) <= _MOST_OF_AN_ATTRIBUTE
            for name, value in given.items()
        )
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        right = False
    if not right:
        raise Refusal(400, "invalid_attributes", "X-Amz-Firehose-Common-Attributes is not as Firehose sends it")


def _records(body: Any, incoming: Incoming) -> list[Any]:
    """The records of a request; makes its id known where no header did. Raises Refusal(400)."""
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_request", "the body must be a JSON object")
    if incoming.request_id is None and isinstance(body.get("requestId"), str):
        incoming.request_id = body["requestId"]
    if not 0 < len(incoming.request_id or "") <= _MOST_OF_A_REQUEST_ID:
        raise Refusal(400, "invalid_request", f"requestId must be a text of 1 to {_MOST_OF_A_REQUEST_ID} characters")
    found = body.get("records")
    if not isinstance(found, list) or not 0 < len(found) <= _MOST_RECORDS:
        raise Refusal(400, "invalid_request", f"records must be a list of 1 to {_MOST_RECORDS}")
    if any(isinstance(data := _data(record), str) and len(data) > _MOST_OF_A_RECORD for record in found):
        raise Refusal(400, "invalid_request", f"data of a record is longer than {_MOST_OF_A_RECORD} characters")
    return found


def _events(
    found: Sequence[Any], source: Source, incoming: Incoming, received_at: datetime
) -> Iterator[Envelope | Rejected]:
    """The events of all records, one record after the other, so that they are never in memory all at once."""
    for index, record in enumerate(found):
        delivery = f"firehose:{incoming.request_id}:{index}"
        if (data := _decoded(_data(record))) is None:
            broken = Broken(json.dumps(record).encode(), "data is not base64")
            yield records.undecodable(source, broken, received_at, f"{delivery}:0")
        else:
            yield from records.events(data, source, received_at, delivery)


def _decoded(data: Any) -> bytes | None:
    try:
        return base64.b64decode(data, validate=True) if isinstance(data, str) else None
    except ValueError:
        return None


def _data(record: Any) -> Any:
    return record.get("data") if isinstance(record, dict) else None
