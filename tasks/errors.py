"""Every way a delivery can fail; the class is the verdict, its reason the one word used everywhere.

RouterError                   .reason
├─ Refused                    found at load, nothing was started
│  ├─ TriggerRefused          invalid
│  └─ MappingRefused          invalid        carries every problem
├─ PermanentError             never retried → dead letter
│  ├─ InvalidEnvelope         invalid
│  ├─ MappingFailed           unmappable
│  ├─ DestinationRejected     rejected       4xx but those retried, 3xx, 501
│  ├─ DestinationUnauthorized unauthorized   401, 403: the key or the plan is wrong, not the event
│  └─ Expired                 expired        its publisher wanted it begun earlier
└─ TransientError             retried, then dead as "exhausted" or "expired"
   ├─ DestinationUnavailable  unavailable    time-out, refused, reset, 408, 423, 425, 5xx but 501
   └─ DestinationThrottled    throttled      429, carries retry_after_s
anything else                 bug            dead letter, with traceback

Settings, sources and routes that do not validate raise config.problems.ConfigurationRefused.
Reasons without a class of their own: exhausted, expired, poison, undecodable, unknown_task.
"""

from typing import Any, ClassVar, Final

#: Every word that may stand as the reason of a dead letter, and what it tells the operator.
REASONS: Final[dict[str, str]] = {
    "invalid": "the event or envelope does not validate",
    "unmappable": "the route's mapping gave no usable fields for this event",
    "rejected": "the destination refused the request for good",
    "unauthorized": "the destination refused our key (401) or our plan (403)",
    "throttled": "the destination asked us to slow down (429)",
    "unavailable": "the destination did not answer, or answered that it could not",
    "exhausted": "every allowed attempt was made",
    "expired": "the event grew older than retries may make it, or than its publisher wanted it",
    "poison": "the worker died each time it worked on this event",
    "undecodable": "the message is not even an envelope, the record no JSON",
    "unknown_task": "no task of that name exists here",
    "bug": "our code or a handler raised something unexpected",
}


class RouterError(Exception):
    """Root of all errors that we raise on purpose."""

    reason: ClassVar[str] = "bug"
    #: The destination's answer (tasks.destinations.http.Response), where there was one.
    response: Any = None


class Refused(RouterError):
    """Found before anything was started."""

    reason: ClassVar[str] = "invalid"


class TriggerRefused(Refused):
    """A trigger that does not parse, or that could be misread; the message shows the place."""


class MappingRefused(Refused):
    """A mapping that does not validate; carries every problem."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class PermanentError(RouterError):
    """Trying again would not help."""


class InvalidEnvelope(PermanentError):
    """Not an envelope of a version that we read."""

    reason: ClassVar[str] = "invalid"


class MappingFailed(PermanentError):
    """The mapping gave no usable fields for this event."""

    reason: ClassVar[str] = "unmappable"


class DestinationRejected(PermanentError):
    """The destination refused the request for good."""

    reason: ClassVar[str] = "rejected"


class DestinationUnauthorized(PermanentError):
    """The destination refused our key or our plan."""

    reason: ClassVar[str] = "unauthorized"


class Expired(PermanentError):
    """Its publisher set a time by which it was to be begun, and that has gone by."""

    reason: ClassVar[str] = "expired"


class TransientError(RouterError):
    """Trying again later may help."""

    retry_after_s: float | None = None


class DestinationUnavailable(TransientError):
    """The destination did not answer, or answered that it could not."""

    reason: ClassVar[str] = "unavailable"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DestinationThrottled(DestinationUnavailable):
    """The destination asked us to slow down."""

    reason: ClassVar[str] = "throttled"


def reason_of(error: BaseException) -> str:
    """The one word for an exception; other people's exceptions may have a `reason` too, which is none of ours."""
    return error.reason if isinstance(error, RouterError) else "bug"


class QueueFull(RouterError):
    """Too many events wait already; nothing was taken."""


class QueueUnavailable(RouterError):
    """Redis did not take the event; whether it has it is unknown."""
