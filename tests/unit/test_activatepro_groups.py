"""Which requests to ActivatePro can be one, and what they become."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.action import Request
from tasks.actions import ACTIONS
from tasks.destinations.activatepro import ActivatePro
from tasks.destinations.grouping import Groups
from tasks.destinations.http import Http

API = ActivatePro(Http(connect_timeout_s=1, read_timeout_s=1, connections=1), "https://api.example.com", "token")
ONE = {"id": "u1", "events": [{"event": "Message Viewed"}]}


def request(body: Any = ONE, path: str = "/events") -> Request:
    return Request("activatepro", "POST", path, body)


@given(names=st.lists(st.text(min_size=1), min_size=1, max_size=50))
def test_many_become_one(names: list[str]) -> None:
    """All events in their order, of the user whose key they share; the requests themselves stay as they are."""
    made = [ACTIONS["upload_event"].requests({"event": name, "id": "u1"})[0] for name in names]
    kept = [dataclasses.asdict(each) for each in made]

    merged = API.merged(made)

    assert len({API.group_key(each) for each in made}) == 1
    assert merged == request({"id": "u1", "events": [{"event": name} for name in names]})
    assert [dataclasses.asdict(each) for each in made] == kept


def test_it_says_that_it_groups() -> None:
    """Whoever delivers looks for the protocol; the API takes 50 events in a request."""
    assert isinstance(API, Groups)
    assert API.most == 50


@pytest.mark.parametrize(
    "other",
    [
        {**ONE, "id": "u2"},
        {**ONE, "businessUnit": "north"},
        {"email": "u1", "events": ONE["events"]},
    ],
)
def test_other_users_do_not_share_a_key(other: dict[str, Any]) -> None:
    """An id is no address, and the same id in another shop is another user."""
    assert API.group_key(request(other)) not in {None, API.group_key(request())}


@pytest.mark.parametrize(
    "alone",
    [
        request({**ONE, "events": []}),
        request({**ONE, "events": ONE["events"] * 2}),
        request({**ONE, "events": "x"}),
        request({"id": "u1"}),
        request({**ONE, "more": 1}),
        request({**ONE, "id": 1}),
        request([ONE]),
        request(None),
        request(path="/users/u1"),
    ],
)
def test_what_is_no_single_event_goes_alone(alone: Request) -> None:
    """A handler may ask for anything of the API; only what is understood is merged."""
    assert API.group_key(alone) is None
