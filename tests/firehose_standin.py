"""A stand-in for Amazon Data Firehose as it speaks to an HTTP endpoint: strict about answers, and it does not give up.

https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html (requests, answers, retries) and
https://docs.aws.amazon.com/firehose/latest/dev/http_troubleshooting.html (what makes an answer invalid).
"""

import base64
import dataclasses
import gzip
import http.client
import json
import time
from collections.abc import Mapping, Sequence

MOST_OF_AN_ANSWER = 1024 * 1024
MOST_OF_A_MESSAGE = 8192
FIELDS = {"requestId", "timestamp"}


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer as it came; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request(
    request_id: str, records: Sequence[bytes], key: str, *, packed: bool = False
) -> tuple[dict[str, str], bytes]:
    """Headers and body of a delivery."""
    data = [{"data": base64.b64encode(record).decode()} for record in records]
    body = json.dumps({"requestId": request_id, "timestamp": int(time.time() * 1000), "records": data}).encode()
    headers = {
        "X-Amz-Firehose-Protocol-Version": "1.0",
        "X-Amz-Firehose-Request-Id": request_id,
        "X-Amz-Firehose-Source-Arn": "arn:aws:firehose:eu-west-1:123456789012:deliverystream/stand-in",
        "X-Amz-Firehose-Access-Key": key,
        "X-Amz-Firehose-Common-Attributes": '{"commonAttributes": {"stage": "test"}}',
        "Content-Type": "application/json",
    }
    return ({**headers, "Content-Encoding": "gzip"}, gzip.compress(body, 1)) if packed else (headers, body)


def objection(reply: Reply, request_id: str) -> str:
    """Why Firehose would not count the request as delivered; "" when it would."""
    if reply.status != 200:
        return "status is not 200"
    return malformed(reply, request_id, FIELDS)


def unreadable(reply: Reply, request_id: str) -> str:
    """Why Firehose could not even read a refusal, or would lose what was refused; "" when neither."""
    if reply.status == 413:
        return "413 is lost for good"
    if not (200 < reply.status < 300 or 400 <= reply.status < 600):
        return "status is none of a refusal"
    return malformed(reply, request_id, {*FIELDS, "errorMessage"})


def malformed(reply: Reply, request_id: str, fields: set[str]) -> str:
    """What is wrong with the form of an answer: the first of what Firehose looks at."""
    try:
        data = json.loads(reply.body)
    except ValueError:
        data = None
    data = data if isinstance(data, dict) else {}
    message = data.get("errorMessage", "")
    checks = {
        "Content-Type is not application/json": reply.headers.get("content-type") == "application/json",
        "has a Content-Encoding": "content-encoding" not in reply.headers,
        "has no Content-Length": reply.headers.get("content-length") == str(len(reply.body)),
        "larger than 1 MiB": len(reply.body) <= MOST_OF_AN_ANSWER,
        "no JSON object": bool(data),
        "requestId is not the request's": data.get("requestId") == request_id,
        "fields are not those expected": set(data) == fields,
        "timestamp is no integer": type(data.get("timestamp")) is int,
        "errorMessage is too long": isinstance(message, str) and len(message) <= MOST_OF_A_MESSAGE,
    }
    return next((why for why, right in checks.items() if not right), "")


class Standin:
    """One delivery stream with its buffer flushed: request after request, each until it is delivered."""

    def __init__(self, port: int, path: str, key: str, *, tries: int = 8) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180)  # Firehose's own time-out
        self._path = path
        self._key = key
        self._tries = tries
        self.objections: list[str] = []
        self.seconds: list[float] = []

    def deliver(self, request_id: str, records: Sequence[bytes], *, packed: bool = False, times: int = 1) -> None:
        """Send a request until it counts as delivered; `times` as often, as if answers had been lost on the way."""
        headers, body = request(request_id, records, self._key, packed=packed)
        for _ in range(times):
            for number in range(self._tries):
                why = objection(self.post(headers, body), request_id)
                if not why:
                    break
                self.objections.append(why)
                time.sleep(min(0.1 * 2**number, 3))  # Firehose: 1 s, then twice as long each time, at most 120 s
            else:
                raise AssertionError(f"not delivered after {self._tries} tries: {self.objections}")

    def post(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request, as it is."""
        begun = time.monotonic()
        self._connection.request("POST", self._path, body, dict(headers))
        answer = self._connection.getresponse()
        reply = Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        self.seconds.append(time.monotonic() - begun)
        return reply

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
