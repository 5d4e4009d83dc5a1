"""When a delivery is tried again, and when it is given up."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import errors
from tasks.retry import Again, GiveUp, Policy, decide, retry_after_s

POLICY = Policy(max_attempts=5, max_age_s=1000, base_s=2, max_delay_s=60, retry_after_cap_s=100)
NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.InvalidEnvelope("x"), "invalid"),
        (errors.MappingFailed("x"), "unmappable"),
        (errors.DestinationRejected("x"), "rejected"),
        (errors.DestinationUnauthorized("x"), "unauthorized"),
        (errors.TriggerRefused("x"), "invalid"),
        (errors.RouterError("x"), "bug"),
        (ValueError("x"), "bug"),
        (TimeoutError("x"), "bug"),
    ],
)
def test_what_is_not_transient_is_given_up_at_once(error: Exception, reason: str) -> None:
    """Only transient errors are tried again; the others die for their own reason."""
    assert decide(error, 1, 0, POLICY, 0.5) == GiveUp(reason)


@pytest.mark.parametrize("kind", [errors.TransientError, errors.DestinationUnavailable, errors.DestinationThrottled])
def test_transient_errors_are_tried_again(kind: type[errors.TransientError]) -> None:
    """Each transient class gets another attempt."""
    assert decide(kind("x"), 1, 0, POLICY, 0.5) == Again(1.0)


@pytest.mark.parametrize(("attempt", "ceiling"), [(1, 2), (2, 4), (3, 8), (4, 16), (9, 60), (60, 60), (100_000, 60)])
def test_the_wait_doubles_up_to_its_limit(attempt: int, ceiling: float) -> None:
    """The longest wait doubles with each attempt, and a high number overflows nothing."""
    policy = Policy(max_attempts=10**6, max_age_s=1e9, base_s=2, max_delay_s=60, retry_after_cap_s=100)

    assert decide(errors.DestinationUnavailable("x"), attempt, 0, policy, 1.0) == Again(ceiling)
    assert decide(errors.DestinationUnavailable("x"), attempt, 0, policy, 0.0) == Again(0)


@pytest.mark.parametrize("attempt", [5, 6])
def test_the_last_attempt_exhausts(attempt: int) -> None:
    """No attempt follows on the last one."""
    assert decide(errors.DestinationUnavailable("x"), attempt, 0, POLICY, 0.5) == GiveUp("exhausted")


def test_one_attempt_before_the_last_is_followed_by_another() -> None:
    """The limit is inclusive."""
    assert decide(errors.DestinationUnavailable("x"), 4, 0, POLICY, 0.5) == Again(8)


def test_an_attempt_beyond_the_age_limit_is_not_waited_for() -> None:
    """It is the age at the next attempt that counts."""
    error = errors.DestinationUnavailable("x")

    assert decide(error, 1, 999, POLICY, 0.5) == Again(1)
    assert decide(error, 1, 999.01, POLICY, 0.5) == GiveUp("expired")


@pytest.mark.parametrize(("asked", "waited"), [(0, 1), (30, 31), (100, 101), (5000, 101)])
def test_retry_after_is_a_floor_with_a_cap(asked: float, waited: float) -> None:
    """Jitter goes on top of what the destination asks for, which counts up to the cap."""
    assert decide(errors.DestinationThrottled("x", asked), 1, 0, POLICY, 0.5) == Again(waited)


@given(
    attempt=st.integers(1, 50),
    age_s=st.floats(0, 2000),
    roll=st.floats(0, 1),
    asked=st.none() | st.floats(0, 1e9),
)
def test_every_decision_keeps_the_limits(attempt: int, age_s: float, roll: float, asked: float | None) -> None:
    """Never sooner than asked (up to the cap), never later than both limits, never beyond attempts or age."""
    decided = decide(errors.DestinationUnavailable("x", asked), attempt, age_s, POLICY, roll)

    floor = min(asked or 0, POLICY.retry_after_cap_s)
    if isinstance(decided, Again):
        assert floor <= decided.delay_s <= floor + POLICY.max_delay_s
        assert attempt < POLICY.max_attempts
        assert age_s + decided.delay_s <= POLICY.max_age_s
    else:
        assert decided.reason == ("exhausted" if attempt >= POLICY.max_attempts else "expired")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("9" * 400, 999_999_999),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("\N{FULLWIDTH DIGIT ONE}", None),
        ("\N{SUPERSCRIPT TWO}", None),
        ("Wed, 99 Foo 2026 99:99:99 GMT", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
def test_retry_after_in_seconds_or_junk(value: str, seconds: float | None) -> None:
    """Whole seconds count; whatever is neither those nor a date is as if it were absent."""
    assert retry_after_s({"Retry-After": value}, NOW) == seconds


def test_no_retry_after() -> None:
    """Without the header there is no wish."""
    assert retry_after_s({}, NOW) is None


@pytest.mark.parametrize(("ahead_s", "seconds"), [(90, 90), (0, 0), (-90, 0)])
@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2))])
def test_retry_after_as_a_date(ahead_s: int, seconds: float, zone: timezone) -> None:
    """A date counts from now; one that is past means at once."""
    value = format_datetime(datetime.fromtimestamp(NOW + ahead_s, zone))

    assert retry_after_s({"Retry-After": value}, NOW) == seconds


@given(st.text())
def test_no_retry_after_raises(value: str) -> None:
    """Nothing that a destination can write there is an error, or a wait into the past."""
    seconds = retry_after_s({"Retry-After": value}, NOW)

    assert seconds is None or seconds >= 0
