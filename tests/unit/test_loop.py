"""How loops are cut: what we write is marked, and what comes back marked is not sent again."""

from typing import Any

import pytest
from builders import EMAIL, envelope

from tasks.loop import MARK, is_echo, marked

OTHER = "other@example.com"


def stream(type_: str, properties: dict[str, Any], user: Any = None, **changes: Any) -> Any:
    user = {"id": "1", "email": EMAIL} if user is None else user
    return envelope(type=type_, event={"event": type_, "user": user, "properties": properties}, **changes)


@pytest.mark.parametrize(
    ("action", "fields", "with_mark"),
    [
        ("identify_user", {"email": EMAIL}, {"email": EMAIL, "user": {MARK: "e1"}}),
        ("identify_user", {"user": {"plan": "pro"}}, {"user": {"plan": "pro", MARK: "e1"}}),
        ("forward_event", {"name": "x", "user": {"email": EMAIL}}, {"name": "x", "user": {"email": EMAIL, MARK: "e1"}}),
        ("track_event", {"userFields": {"plan": "pro"}}, {"userFields": {"plan": "pro", MARK: "e1"}}),
        ("track_page", {"userFields": {"plan": "pro"}}, {"userFields": {"plan": "pro", MARK: "e1"}}),
    ],
)
def test_writes_to_a_person_are_marked(action: str, fields: dict[str, Any], with_mark: dict[str, Any]) -> None:
    """The mark is a field of the person, with the id of the event that made us write."""
    before = repr(fields)

    assert marked(envelope(), action, fields) == with_mark
    assert repr(fields) == before


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("track_event", {"event": "Order"}),
        ("track_event", {"event": "Order", "userFields": {}}),
        ("track_page", {}),
        ("tag_user", {"tag": "vip"}),
        ("untag_user", {"tag": "vip"}),
        ("alias_user", {"email": EMAIL}),
        ("upsert_object", {"objectType": "company", "objectData": {"name": "Acme"}}),
        ("unsubscribe_user", {"email": EMAIL}),
        ("archive_user", {"email": EMAIL}),
    ],
)
def test_nothing_else_is_marked(action: str, fields: dict[str, Any]) -> None:
    """Actions that write no field of a person carry no mark."""
    assert marked(envelope(), action, fields) == fields


@pytest.mark.parametrize("format_", ["segment", "activitypro"])
def test_other_formats_are_untouched(format_: str) -> None:
    """Only what comes from Encharge can come back from Encharge."""
    event = stream("updatedUser", {"changedFields": {MARK: {}}}, format=format_)

    assert marked(event, "identify_user", {"user": {}}) == {"user": {}}
    assert not is_echo(event, "identify_user", {})
    assert not is_echo(stream("added-tag", {"tag": "vip"}, format=format_), "tag_user", {"tag": "vip"})


def test_identify_comes_back_once_and_is_cut() -> None:
    """Identify, then the updatedUser that it causes: the second is an echo, whatever the action."""
    cause = stream("form-submitted", {"form": {"plan": "pro"}})
    written = marked(cause, "identify_user", {"email": EMAIL, "user": {"plan": "pro"}})
    changed = {field: {"newValue": value, "oldValue": None} for field, value in written["user"].items()}
    effect = stream("updatedUser", {"changedFields": changed, "source": "api"})

    assert is_echo(effect, "identify_user", {"email": EMAIL})
    assert is_echo(effect, "track_event", {"email": EMAIL, "event": "Person updated"})


@pytest.mark.parametrize("changed", [{"plan": {}}, {}, None, [MARK], MARK])
def test_somebody_elses_update_is_no_echo(changed: Any) -> None:
    """An update without our mark goes its way, also when it has another shape."""
    assert not is_echo(stream("updatedUser", {"changedFields": changed}), "identify_user", {})


@pytest.mark.parametrize("tag", ["vip", "very-important-person", "added-tag-x"])
def test_a_tag_is_not_given_back(tag: str) -> None:
    """The same tag for the same person is an echo, dashes or not."""
    assert is_echo(stream("added-tag", {"tag": tag}), "tag_user", {"tag": tag, "email": EMAIL})
    assert is_echo(stream("removed-tag", {"tag": tag}), "untag_user", {"tag": tag, "email": EMAIL})


@pytest.mark.parametrize(
    ("type_", "action", "fields"),
    [
        ("added-tag", "tag_user", {"tag": "vip", "email": OTHER}),
        ("added-tag", "tag_user", {"tag": "vip-2", "email": EMAIL}),
        ("added-tag", "untag_user", {"tag": "vip", "email": EMAIL}),
        ("removed-tag", "tag_user", {"tag": "vip", "email": EMAIL}),
        ("added-tag", "identify_user", {"email": EMAIL}),
    ],
)
def test_another_tag_or_person_is_no_echo(type_: str, action: str, fields: dict[str, Any]) -> None:
    """Another tag, another person, or the opposite: that is a rule at work, not an echo."""
    assert not is_echo(stream(type_, {"tag": "vip"}), action, fields)


@pytest.mark.parametrize("event", [{}, {"properties": [], "user": "x"}, {"properties": None, "user": None}])
@pytest.mark.parametrize("type_", ["updatedUser", "added-tag", "removed-tag", "newUser"])
def test_odd_shapes_are_no_echo(event: dict[str, Any], type_: str) -> None:
    """Events without the usual keys are not taken for ours."""
    assert not is_echo(envelope(type=type_, event=event), "tag_user", {})
