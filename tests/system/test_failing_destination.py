"""The destination fails, throttles and hangs; nothing is lost, and nothing is told twice without a time-out."""

from collections.abc import Callable

from conftest import Router, numbered

EVENTS = 500


def test_every_event_is_delivered_once_while_a_third_of_the_answers_fail(make_router: Callable[..., Router]) -> None:
    """30 % 503 or 429 and 5 % hanging: all delivered or dead with reason, doubles only after a time-out."""
    router = make_router(
        HTTP_READ_TIMEOUT_S="0.7",
        RETRY_BASE_S="0.3",
        RETRY_MAX_DELAY_S="2",
        WORKER_CONCURRENCY="32",
        LEASE_S="5",
        RETRY_MAX_ATTEMPTS="3",
    )
    router.start_all()
    router.faults(
        {"kind": "status", "status": [503, 429], "rate": 0.30},
        {"kind": "hang", "rate": 0.05 / 0.7, "delay_s": 5, "after": True},
    )
    ids = router.post_many(numbered(EVENTS))
    events = router.settled(ids, 120)

    state = {event.state for event in events}
    assert state <= {"delivered", "dead"}
    dead = list(router.connection.letters.find())
    assert len(dead) == sum(event.state == "dead" for event in events)
    assert all(letter.reason in {"exhausted", "expired"} for letter in dead)
    assert router.counts("source", "encharge")["waiting"] == 0
    router.assert_equation()

    arrivals = router.arrivals()
    delivered = [number for number, event in enumerate(events) if event.state == "delivered"]
    assert all(str(number) in arrivals for number in delivered)
    timed_out = {
        number
        for number, event in enumerate(events)
        for delivery in event.deliveries.values()
        if any(attempt["status"] is None and attempt["duration_ms"] >= 700 for attempt in delivery.record["attempts"])
    }
    doubles = {int(number) for number, times in arrivals.items() if len(times) > 1}
    assert doubles <= timed_out
    assert dead, "with three attempts some events must have run out of them"
    assert doubles, "hanging answers were taken by Encharge first, so some events must have arrived twice"
    print(
        f"\n{EVENTS} events: {len(delivered)} delivered, {len(dead)} dead, "
        f"{len(timed_out)} with a time-out, of which {len(doubles)} arrived twice; 0 others twice"
    )
