"""When to try again, decided purely: no clock, no dice of its own."""

import dataclasses
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from tasks.errors import TransientError, reason_of

_MOST_DOUBLINGS: Final = 30


@dataclasses.dataclass(frozen=True)
class Policy:
    """How often and how long a delivery is tried. Seconds."""

    max_attempts: int
    max_age_s: float
    base_s: float
    max_delay_s: float
    retry_after_cap_s: float


@dataclasses.dataclass(frozen=True)
class Again:
    """Try again after this many seconds."""

    delay_s: float


@dataclasses.dataclass(frozen=True)
class GiveUp:
    """Stop trying; the reason of the dead letter."""

    reason: str


def decide(error: Exception, attempt: int, age_s: float, policy: Policy, roll: float) -> Again | GiveUp:
    """What follows on a failed attempt (number from 1) of a delivery of that age; roll is between 0 and 1.

    Exponential with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), never
    earlier than the destination's Retry-After, which counts up to the policy's cap.
    """
    if not isinstance(error, TransientError):
        return GiveUp(reason_of(error))
    if attempt >= policy.max_attempts:
        return GiveUp("exhausted")
    ceiling = min(policy.max_delay_s, policy.base_s * 2 ** min(attempt - 1, _MOST_DOUBLINGS))
    delay_s = roll * ceiling
    if error.retry_after_s is not None:
        # The jitter goes on top, or all that were refused together come back together.
        delay_s += min(error.retry_after_s, policy.retry_after_cap_s)
    if age_s + delay_s > policy.max_age_s:
        return GiveUp("expired")
    return Again(delay_s)


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Retry-After as seconds from `now` (Unix time), given in seconds or as a date; None when absent or unreadable.

    RFC 9110, section 10.2.3.
    """
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
        # HTTP dates are in GMT, also where they do not say so.
        return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
