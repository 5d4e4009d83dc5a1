"""Tasks that others publish do what they ask for, whatever the routes file says."""

from builders import envelope

from tasks.actions import ACTIONS
from tasks.envelope import TASK
from tasks.routing import BUILT_IN, Routes

ROUTES = Routes(())


def test_a_task_goes_along_the_route_of_its_name() -> None:
    published = envelope(
        format=TASK, type="users.tag", name="users.tag", event={"email": "a@example.com", "tag": "vip"}
    )
    (route,) = ROUTES.match(published)
    assert route is ROUTES.get("users.tag")
    (request,) = route.requests(published)
    assert request.body == {"name": "identify", "user": {"email": "a@example.com", "tags": "vip"}}


def test_no_field_hides_behind_what_we_add_to_an_event() -> None:
    """`envelope` and `message` are ours in every view."""
    for action in ACTIONS.values():
        assert not {"envelope", "message"} & action.fields.keys()
        assert BUILT_IN[action.task].action is action


def test_a_task_that_is_none_goes_nowhere() -> None:
    assert ROUTES.match(envelope(format=TASK, type="users.tickle", name="users.tickle")) == []
