"""The sandbox without sockets: what it takes, what it refuses, what it remembers, and how it picks faults."""

import json
from datetime import UTC, datetime
from threading import Event as Signal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sandbox.activity_stream import ActivityStream, payload
from sandbox.body import user_id_text
from sandbox.faults import Faults, InvalidRule, parse_rules
from sandbox.gate import ConnectionGone
from sandbox.records import Change, Json, changed_fields
from sandbox.server import create_sandbox
from sandbox.state import State

INGEST = "/ingest/v1/"
REST = "/api/v1"
EMAIL = "one@example.com"
OTHER = "two@example.com"
WRITE = {"X-Encharge-Token": "sandbox-write-key"}
API = {"X-Encharge-Token": "sandbox-api-key"}


@pytest.fixture(scope="module")
def shared() -> Flask:
    """Made once: its many addresses take longer than a test."""
    return create_sandbox()


@pytest.fixture
def app(shared: Flask) -> Flask:
    client = shared.test_client()
    client.delete("/_sandbox/state")
    client.delete("/_sandbox/faults")
    return shared


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def ingest(client: FlaskClient, body: Any, path: str = INGEST) -> TestResponse:
    return client.post(path, json=body, headers=WRITE)


def identify(client: FlaskClient, **user: Any) -> None:
    assert ingest(client, {"name": "identify", "user": user}).status_code == 200


def rest(client: FlaskClient, method: str, path: str, body: Any = None) -> TestResponse:
    if body is None:
        return client.open(REST + path, method=method, headers=API)
    return client.open(REST + path, method=method, json=body, headers=API)


def state(client: FlaskClient, query: str = "") -> Json:
    return dict(client.get(f"/_sandbox/state{query}").get_json())


def person(client: FlaskClient, **wanted: Any) -> Json:
    found = [one for one in state(client)["people"] if wanted.items() <= one.items()]
    assert len(found) == 1, found
    return dict(found[0])


def error(response: TestResponse) -> Any:
    return response.get_json()["error"]


def put_faults(client: FlaskClient, *rules: Json, query: str = "") -> None:
    assert client.put(f"/_sandbox/faults{query}", json=list(rules)).status_code == 200


class TestIngest:
    """The Ingest API."""

    @pytest.mark.parametrize("path", ["/ingest/v1", "/ingest/v1/"])
    def test_both_addresses(self, client: FlaskClient, path: str) -> None:
        """The address with and without the last slash answers 200 without a redirect."""
        assert ingest(client, {"name": "a", "user": {"email": EMAIL}}, path).status_code == 200

    def test_key_in_the_path(self, client: FlaskClient) -> None:
        """The write key may be the last segment of the path."""
        answer = client.post(f"{INGEST}sandbox-write-key", json={"name": "a", "user": {"email": EMAIL}})
        assert answer.status_code == 200

    def test_missing_key(self, client: FlaskClient) -> None:
        """Without a key, the documented text."""
        answer = client.post(INGEST, json={"name": "a", "user": {"email": EMAIL}})
        assert (answer.status_code, error(answer)) == (401, "Missing Encharge write key.")

    def test_wrong_key(self, client: FlaskClient) -> None:
        """A key of nobody is a 400 with the known text; the API key is not a write key."""
        answer = client.post(INGEST, json={"name": "a", "user": {"email": EMAIL}}, headers=API)
        assert (answer.status_code, error(answer)) == (400, "Can't find this account.")

    def test_person_is_created_with_fields_and_tags(self, client: FlaskClient) -> None:
        """Unknown keys of the user become fields, tags are a comma separated list."""
        identify(client, email=EMAIL, userId=123, tags="a, b,,a", plan="pro")
        one = person(client, email=EMAIL)
        assert (one["userId"], one["tags"], one["fields"]) == ("123", ["a", "b"], {"plan": "pro"})

    def test_number_and_text_are_one_user(self, client: FlaskClient) -> None:
        """The userIds 123, 123.0 and "123" are one person."""
        for user_id in (123, 123.0, "123"):
            identify(client, userId=user_id)
        assert state(client)["counts"]["people"] == 1

    def test_tags_are_only_added(self, client: FlaskClient) -> None:
        """A second call with other tags keeps the first ones."""
        identify(client, email=EMAIL, tags="a")
        identify(client, email=EMAIL, tags="b")
        assert person(client, email=EMAIL)["tags"] == ["a", "b"]

    def test_event_instead_of_name(self, client: FlaskClient) -> None:
        """Segment's dialect carries the name as `event`."""
        assert ingest(client, {"event": "Bought", "type": "track", "user": {"userId": "1"}}).status_code == 200
        assert state(client)["events"][0]["name"] == "Bought"

    @pytest.mark.parametrize("kind", ["page", "identify"])
    def test_types_that_need_no_name(self, client: FlaskClient, kind: str) -> None:
        """Segment's destination sends page views and identifies without any name."""
        assert ingest(client, {"type": kind, "user": {"userId": "1"}}).status_code == 200

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ([{"name": "a", "user": {"userId": "1"}}], "batch"),
            ("text", "one JSON object"),
            ({"user": {"userId": "1"}}, "name is required"),
            ({"type": "track", "user": {"userId": "1"}}, "name is required"),
            ({"name": 5, "user": {"userId": "1"}}, "name must be a string"),
            ({"name": "a"}, "email or a userId"),
            ({"name": "a", "user": {}}, "email or a userId"),
            ({"name": "a", "user": {"email": "", "userId": None}}, "email or a userId"),
            ({"name": "a", "user": {"segmentAnonymousId": "x"}}, "email or a userId"),
            ({"name": "a", "user": [EMAIL]}, "user must be an object"),
            ({"name": "a", "user": {"userId": True}}, "userId must be a string or a number"),
            ({"name": "a", "user": {"userId": {"a": 1}}}, "userId must be a string or a number"),
            ({"name": "a", "user": {"email": 5}}, "email must be a string"),
            ({"name": "a", "user": {"email": EMAIL, "tags": ["a"]}}, "tags must be a string"),
            ({"name": "a", "user": {"email": EMAIL}, "properties": "x"}, "properties must be an object"),
            ({"type": 5, "user": {"email": EMAIL}}, "type must be a string"),
            ({"type": "group", "properties": {}}, "objectType is required"),
            ({"type": "group", "objectType": "ship", "properties": {}}, "no object schema named 'ship'"),
            ({"type": "alias", "previousUserId": [1], "user": {"userId": "2"}}, "previous.userId"),
        ],
    )
    def test_refused(self, client: FlaskClient, body: Any, text: str) -> None:
        """What the page forbids is a 400 whose error is a text, and changes nothing."""
        answer = ingest(client, body)
        assert answer.status_code == 400
        assert text in error(answer)
        assert state(client)["counts"] == {
            "requests": 1, "accepted": 0, "refused": 1, "faulted": 0, "people": 0, "objects": 0, "events": 0
        }  # fmt: skip

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"{",
            b'{"name": NaN}',
            b'{"a": 1e999}',
            b"\xff\xfe{",
            b"[" * 100_000,
            b'{"a":' * 150 + b"1" + b"}" * 150,
        ],
    )
    def test_not_json(self, client: FlaskClient, body: bytes) -> None:
        """A body that is no JSON, or so deep that nobody could write it out again, is a 400."""
        answer = client.post(INGEST, data=body, headers=WRITE, content_type="application/json")
        assert answer.status_code == 400

    @pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
    def test_content_type(self, client: FlaskClient, content_type: str) -> None:
        """The content type must be JSON."""
        body = b'{"name": "a", "user": {"userId": "1"}}'
        answer = client.post(INGEST, data=body, headers=WRITE, content_type=content_type)
        assert (answer.status_code, error(answer)) == (400, "Content-Type must be application/json.")

    def test_content_type_with_charset(self, client: FlaskClient) -> None:
        """Parameters of the content type do not matter."""
        body = b'{"name": "a", "user": {"userId": "1"}}'
        kind = "application/json; charset=utf-8"
        assert client.post(INGEST, data=body, headers=WRITE, content_type=kind).status_code == 200

    def test_other_method(self, client: FlaskClient) -> None:
        """Anything but POST is unknown, and says so in a page that escapes the path."""
        answer = client.get(f"{INGEST}<b>")
        assert answer.status_code == 404
        assert "Cannot GET /ingest/v1/&lt;b&gt;" in answer.text

    def test_hostile_text_comes_back_as_it_was(self, client: FlaskClient) -> None:
        """Markup, NUL and half a surrogate pair survive the way through the state."""
        hostile = "<script>alert(1)</script>\x00\ud800"
        identify(client, userId="1", field=hostile, tags=hostile)
        assert person(client, userId="1")["fields"] == {"field": hostile}


class TestAlias:
    """Re-keying a person."""

    def test_documented_form(self, client: FlaskClient) -> None:
        """The old identifiers stand at the top, the new ones in the user."""
        identify(client, userId="old", email=EMAIL, plan="pro")
        body = {"type": "alias", "previousUserId": "old", "previousEmail": EMAIL}
        assert ingest(client, body | {"user": {"userId": "new", "email": OTHER}}).status_code == 200
        assert person(client, userId="new", email=OTHER)["fields"] == {"plan": "pro"}

    def test_segment_form(self, client: FlaskClient) -> None:
        """Segment sends both at the top and no user."""
        identify(client, userId="old", plan="pro")
        assert ingest(client, {"type": "alias", "previousUserId": "old", "userId": "new"}).status_code == 200
        assert person(client, userId="new")["fields"] == {"plan": "pro"}

    def test_repeated(self, client: FlaskClient) -> None:
        """The second of two equal aliases finds nobody and changes nothing."""
        identify(client, userId="old")
        for _ in range(2):
            ingest(client, {"type": "alias", "previousUserId": "old", "userId": "new"})
        assert person(client, userId="new")
        assert state(client)["events"][-1]["effects"] == ["nobody has the previous identifiers"]

    def test_merge(self, client: FlaskClient) -> None:
        """If somebody has the new identifier already, the two become one, who keeps their own values."""
        identify(client, userId="old", email=EMAIL, plan="pro", city="X", tags="a")
        identify(client, userId="new", plan="free", tags="b")
        ingest(client, {"type": "group", "objectType": "company", "properties": {}, "user": {"userId": "old"}})
        ingest(client, {"type": "alias", "previousUserId": "old", "user": {"userId": "new"}})
        one = person(client, userId="new", email=EMAIL)
        assert one["fields"] == {"plan": "free", "city": "X"}
        assert one["tags"] == ["b", "a"]
        assert one["associated"] == [{"object": "company", "id": "1"}]
        assert state(client)["counts"]["people"] == 1


class TestMatching:
    """Who a call is about."""

    def test_email_ignores_case(self, client: FlaskClient) -> None:
        """Addresses that differ in case are one person."""
        identify(client, email=EMAIL)
        identify(client, email=EMAIL.upper())
        assert state(client)["counts"]["people"] == 1

    def test_second_identifier_is_added(self, client: FlaskClient) -> None:
        """Known by e-mail, now with a userId: found by either afterwards."""
        identify(client, email=EMAIL)
        identify(client, email=EMAIL, userId="1")
        identify(client, userId="1", plan="pro")
        assert person(client, email=EMAIL, userId="1")["fields"] == {"plan": "pro"}

    def test_identifiers_of_two_people(self, client: FlaskClient) -> None:
        """The person of the userId changes; the e-mail stays with its owner."""
        identify(client, userId="1")
        identify(client, email=EMAIL)
        identify(client, userId="1", email=EMAIL, plan="pro")
        assert person(client, userId="1")["email"] is None
        assert person(client, email=EMAIL)["fields"] == {}
        assert "email belongs to another person and stays there" in state(client)["events"][-1]["effects"]

    def test_old_address_is_free_again(self, client: FlaskClient) -> None:
        """After a change of address, the old one belongs to nobody."""
        identify(client, userId="1", email=EMAIL)
        identify(client, userId="1", email=OTHER)
        identify(client, email=EMAIL)
        assert state(client)["counts"]["people"] == 2

    @pytest.mark.parametrize(("given", "text"), [(1, "1"), (1.0, "1"), (1.5, "1.5"), ("1", "1"), (None, "")])
    def test_text_of_a_user_id(self, given: Any, text: str) -> None:
        """Whole numbers have one text."""
        assert user_id_text(given) == text


class TestGroup:
    """Objects by ingest."""

    def test_create_update_associate(self, client: FlaskClient) -> None:
        """The externalId finds the object again, and the person is tied to it once."""
        for plan in ("free", "pro"):
            properties = {"externalId": "g-1", "name": "Acme", "plan": plan}
            body = {
                "type": "group",
                "objectType": "company",
                "properties": properties,
                "user": {"userId": "1"},
            }
            assert ingest(client, body).status_code == 200
        item = state(client)["objects"][0]
        assert (item["id"], item["externalId"]) == (1, "g-1")
        assert item["fields"] == {"name": "Acme", "plan": "pro"}
        assert item["associated"] == [{"object": "person", "id": person(client, userId="1")["id"]}]
        effects = [event["effects"] for event in state(client)["events"]]
        assert effects == [
            ["newObject-company", "newUser", "newAssociation-1"],
            ["updatedObject-company: plan"],
        ]

    @pytest.mark.parametrize("extra", [{}, {"user": {}}])
    def test_without_a_person(self, client: FlaskClient, extra: Json) -> None:
        """A group needs no person."""
        body = {"type": "group", "objectType": "company", "properties": {"id": 7}} | extra
        assert ingest(client, body).status_code == 200
        assert state(client)["counts"]["people"] == 0
        assert state(client)["objects"][0]["id"] == "7"

    def test_unknown_fields_are_ignored(self, client: FlaskClient) -> None:
        """A company takes only the fields of its schema, unlike a person."""
        ingest(client, {"type": "group", "objectType": "company", "properties": {"name": "A", "zz": 1}})
        assert state(client)["objects"][0]["fields"] == {"name": "A"}

    def test_further_schema(self, client: FlaskClient) -> None:
        """A schema without a list of fields takes every field."""
        assert client.post("/_sandbox/schemas", json={"name": "ship"}).status_code == 201
        assert ingest(client, {"type": "group", "objectType": "ship", "properties": {"zz": 1}}).status_code == 200
        assert state(client)["objects"][0]["fields"] == {"zz": 1}

    @pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "a/b"}, {"name": "a", "fields": "b"}])
    def test_bad_schema(self, client: FlaskClient, body: Json) -> None:
        """A schema needs a name that fits into a path."""
        assert client.post("/_sandbox/schemas", json=body).status_code == 400


class TestRest:
    """The REST API."""

    @pytest.mark.parametrize(("headers", "code"), [({}, None), (WRITE, 10082)])
    def test_key(self, client: FlaskClient, headers: dict[str, str], code: int | None) -> None:
        """Without the API key: 401 in the object envelope, unlike ingest's text."""
        answer = client.get(f"{REST}/accounts/info", headers=headers)
        assert answer.status_code == 401
        assert error(answer).get("errorCode") == code
        assert error(answer)["markdown"].startswith("<p>")
        assert error(answer)["traceId"]

    def test_key_in_the_query(self, client: FlaskClient) -> None:
        """The key may be given as token=…."""
        assert client.get(f"{REST}/accounts/info?token=sandbox-api-key").get_json()["status"] == "active"

    def test_add_tag(self, client: FlaskClient) -> None:
        """201 without a body; several tags at once; a second time changes nothing."""
        identify(client, email=EMAIL)
        for _ in range(2):
            answer = rest(client, "POST", "/tags", {"tag": "a, b", "email": EMAIL})
            assert (answer.status_code, answer.data) == (201, b"")
        assert person(client, email=EMAIL)["tags"] == ["a", "b"]

    def test_remove_tag(self, client: FlaskClient) -> None:
        """DELETE with a body, 204; a tag that is not there is no error."""
        identify(client, userId="1", tags="a,b")
        for _ in range(2):
            assert rest(client, "DELETE", "/tags", {"tag": "a", "userId": "1"}).status_code == 204
        assert person(client, userId="1")["tags"] == ["b"]

    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    def test_tag_of_nobody(self, client: FlaskClient, method: str) -> None:
        """The person must exist."""
        answer = rest(client, method, "/tags", {"tag": "a", "email": EMAIL})
        assert (answer.status_code, error(answer)["message"]) == (404, "Person not found.")

    @pytest.mark.parametrize(
        "body",
        [{"tag": "a"}, {"email": EMAIL}, {"tag": " , ", "email": EMAIL}, {"tag": 5, "email": EMAIL}, []],
    )
    def test_bad_tag(self, client: FlaskClient, body: Any) -> None:
        """A tag call needs a tag and somebody."""
        identify(client, email=EMAIL)
        assert rest(client, "POST", "/tags", body).status_code == 400

    def test_tag_by_anonymous_id(self, client: FlaskClient) -> None:
        """Segment's segmentAnonymousId finds the person who has it as a field."""
        identify(client, userId="1", segmentAnonymousId="anon")
        assert rest(client, "POST", "/tags", {"tag": "a", "segmentAnonymousId": "anon"}).status_code == 201

    @pytest.mark.parametrize("single", [True, False])
    def test_people(self, client: FlaskClient, *, single: bool) -> None:
        """A list of people or one; answered as flat objects with Encharge's own id."""
        user = {"email": EMAIL, "plan": "pro", "tags": "a"}
        users = rest(client, "POST", "/people", user if single else [user]).get_json()["users"]
        assert [(one["email"], one["plan"], one["tags"]) for one in users] == [(EMAIL, "pro", "a")]
        again = rest(client, "POST", "/people", [{"id": users[0]["id"], "plan": "free"}]).get_json()["users"]
        assert (again[0]["id"], again[0]["plan"]) == (users[0]["id"], "free")

    def test_bad_people_change_nothing(self, client: FlaskClient) -> None:
        """One bad person in the list, and none is taken."""
        assert rest(client, "POST", "/people", [{"email": EMAIL}, {"plan": "pro"}]).status_code == 400
        assert rest(client, "POST", "/people", [{"email": EMAIL}, "x"]).status_code == 400
        assert state(client)["counts"]["people"] == 0

    @pytest.mark.parametrize(
        "query",
        [f"people[0][email]={EMAIL}", f"people%5B0%5D%5Bemail%5D={EMAIL}", f"email={EMAIL}", "userId=1"],
    )
    def test_get_people(self, client: FlaskClient, query: str) -> None:
        """Both forms of the query find a person; attributes pick fields."""
        identify(client, email=EMAIL, userId="1", plan="pro", city="X")
        users = rest(client, "GET", f"/people?{query}&attributes=plan").get_json()["users"]
        assert [set(one) for one in users] == [{"id", "userId", "email", "plan"}]

    def test_get_nobody(self, client: FlaskClient) -> None:
        """Somebody unknown is a 404, nobody at all a 400."""
        assert rest(client, "GET", f"/people?people[0][email]={EMAIL}").status_code == 404
        assert rest(client, "GET", "/people").status_code == 400

    def test_archive(self, client: FlaskClient) -> None:
        """Archived people are hidden, not gone; the next call brings them back."""
        identify(client, email=EMAIL)
        assert rest(client, "DELETE", f"/people?people[0][email]={EMAIL}").status_code == 204
        assert rest(client, "GET", f"/people?email={EMAIL}").status_code == 404
        assert rest(client, "GET", f"/people?email={EMAIL}&includeArchived=true").status_code == 200
        assert rest(client, "GET", "/people/all").get_json() == {"people": []}
        identify(client, email=EMAIL)
        assert person(client, email=EMAIL)["archived"] is False

    def test_erase(self, client: FlaskClient) -> None:
        """force=true forgets the person, their identifiers and what they were tied to."""
        user = {"email": EMAIL}
        ingest(client, {"type": "group", "objectType": "company", "properties": {"name": "A"}, "user": user})
        assert rest(client, "DELETE", f"/people?people[0][email]={EMAIL}&force=true").status_code == 204
        assert state(client)["people"] == []
        assert state(client)["objects"][0]["associated"] == []
        assert rest(client, "DELETE", f"/people?people[0][email]={EMAIL}&force=true").status_code == 204

    def test_all_people(self, client: FlaskClient) -> None:
        """Pages, sorted."""
        for number in (2, 3, 1):
            identify(client, userId=number)
        answer = rest(client, "GET", "/people/all?sort=userId&order=desc&limit=2&offset=1").get_json()
        assert [one["userId"] for one in answer["people"]] == ["2", "1"]
        assert rest(client, "GET", "/people/all?limit=x").status_code == 400

    def test_unsubscribe(self, client: FlaskClient) -> None:
        """By query, without a body; somebody unknown is a 404."""
        identify(client, email=EMAIL)
        assert rest(client, "POST", f"/people/unsubscribe?email={EMAIL}").status_code == 204
        assert person(client, email=EMAIL)["unsubscribed"] is True
        assert rest(client, "POST", f"/people/unsubscribe?email={OTHER}").status_code == 404
        assert rest(client, "POST", "/people/unsubscribe").status_code == 400

    def test_objects(self, client: FlaskClient) -> None:
        """Upsert, change, read and delete by externalId and by id."""
        made = rest(client, "PUT", "/objects/company", {"externalId": "a/b", "name": "A"}).get_json()
        assert made == {"created": True, "object": {"id": 1, "externalId": "a/b", "name": "A"}}
        again = rest(client, "PUT", "/objects/company", {"id": 1, "plan": "pro"}).get_json()
        assert (again["created"], again["object"]["plan"]) == (False, "pro")
        changed = rest(client, "PATCH", "/objects/company/externalId/a/b", {"name": "B"})
        assert changed.get_json()["object"]["name"] == "B"
        assert rest(client, "GET", "/objects/company/1").get_json()["object"]["name"] == "B"
        assert rest(client, "DELETE", "/objects/company/externalId/a/b").status_code == 204
        assert rest(client, "DELETE", "/objects/company/1").status_code == 404
        assert rest(client, "PATCH", "/objects/company/externalId/a/b", {"name": "B"}).status_code == 404
        assert rest(client, "PUT", "/objects/ship", {"name": "A"}).status_code == 404

    def test_new_ids_skip_given_ones(self, client: FlaskClient) -> None:
        """An object with an id of the caller's does not collide with the sandbox's own numbers."""
        rest(client, "PUT", "/objects/company", {"id": 1, "name": "A"})
        assert rest(client, "PUT", "/objects/company", {"name": "B"}).get_json()["object"]["id"] == 2

    def test_schemas_and_fields(self, client: FlaskClient) -> None:
        """Schemas list their associations, fields those described and those in use."""
        schemas = rest(client, "GET", "/schemas").get_json()["objects"]
        assert [(one["name"], one["displayNamePlural"]) for one in schemas] == [("company", "Companies")]
        assert schemas[0]["associations"][0]["toObject"] == "person"
        identify(client, userId="1", plan="pro")
        assert rest(client, "POST", "/fields", [{"name": "size", "type": "number"}]).status_code == 200
        fields = {one["name"]: one["type"] for one in rest(client, "GET", "/fields").get_json()["items"]}
        assert (fields["size"], "plan" in fields, "email" in fields) == ("number", True, True)
        assert rest(client, "POST", "/fields", [{}]).status_code == 400

    def test_associations(self, client: FlaskClient) -> None:
        """Tied by the default association, untied by its id from either side."""
        one = rest(client, "POST", "/people", {"email": EMAIL}).get_json()["users"][0]["id"]
        rest(client, "PUT", "/objects/company", {"name": "A"})
        path = f"/objects/company/1/associations/default/person/{one}"
        assert [rest(client, "POST", path).status_code for _ in range(2)] == [201, 201]
        assert person(client, email=EMAIL)["associated"] == [{"object": "company", "id": "1"}]
        assert rest(client, "DELETE", f"/objects/person/{one}/associations/1/1").status_code == 204
        assert person(client, email=EMAIL)["associated"] == []
        assert rest(client, "POST", f"/objects/company/1/associations/1/{one}").status_code == 201
        assert rest(client, "POST", f"/objects/company/1/associations/9/{one}").status_code == 404
        assert rest(client, "POST", "/objects/company/1/associations/1/nobody").status_code == 404

    def test_unknown_path(self, client: FlaskClient) -> None:
        """An unknown path is answered with a page."""
        answer = rest(client, "GET", "/nix")
        assert (answer.status_code, answer.mimetype) == (404, "text/html")


class TestConsole:
    """What operators and tests look at."""

    def test_page(self, client: FlaskClient) -> None:
        """The page loads nothing from elsewhere and never sets markup."""
        answer = client.get("/")
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert ".innerHTML" not in answer.text
        assert "://" not in answer.text

    def test_health(self, client: FlaskClient) -> None:
        """Health is 200."""
        assert client.get("/_sandbox/health").get_json() == {"status": "ok"}

    def test_state_without_an_echo(self, client: FlaskClient) -> None:
        """The keys of the state."""
        assert set(state(client)) == {"people", "objects", "events", "counts"}

    def test_limit(self, client: FlaskClient) -> None:
        """The limited state shows the people changed last."""
        for user_id in ("1", "2", "3", "1"):
            identify(client, userId=user_id, n=len(state(client)["events"]))
        assert [one["userId"] for one in state(client, "?limit=2")["people"]] == ["1", "3"]
        assert client.get("/_sandbox/state?limit=-1").status_code == 400

    def test_events_since(self, client: FlaskClient) -> None:
        """Events have numbers; `since` is the first one wanted."""
        for name in ("a", "b", "c"):
            ingest(client, {"name": name, "user": {"userId": "1"}})
        answer = client.get("/_sandbox/events?since=2").get_json()
        assert [(event["seq"], event["name"]) for event in answer["events"]] == [(2, "b"), (3, "c")]
        assert answer["total"] == 3
        assert client.get("/_sandbox/events?since=9").get_json()["events"] == []
        assert len(client.get("/_sandbox/events").get_json()["events"]) == 3

    def test_calls_since(self, client: FlaskClient) -> None:
        """Calls of both APIs in the order of the work, with what the caller was told; refused ones too."""
        ingest(client, {"name": "a", "user": {"email": EMAIL}})
        put_faults(client, {"status": 503, "after": True, "count": 1}, {"status": 503, "count": 1})
        rest(client, "POST", "/tags", {"tag": "withheld", "email": EMAIL})
        rest(client, "POST", "/tags", {"tag": "never-taken", "email": EMAIL})
        rest(client, "POST", "/tags", {"tag": "refused", "email": OTHER})
        put_faults(client, {"kind": "delay", "delay_s": 0.001, "after": True})
        rest(client, "POST", "/tags", {"tag": "late", "email": EMAIL})
        answer = client.get("/_sandbox/calls?since=2").get_json()
        assert [(call["seq"], call["status"], call["answeredAfterS"]) for call in answer["calls"]] == [
            (2, 201, None),
            (3, 404, 0),
            (4, 201, 0.001),
        ]
        assert (answer["calls"][0]["method"], answer["calls"][0]["path"]) == ("POST", "/api/v1/tags")
        assert json.loads(answer["calls"][0]["body"])["tag"] == "withheld"
        assert answer["total"] == 4

    def test_state_shows_the_last_200_events(self, client: FlaskClient) -> None:
        """Older events are counted, not shown."""
        for _ in range(201):
            ingest(client, {"name": "a", "user": {"userId": "1"}})
        shown = state(client)
        assert (len(shown["events"]), shown["events"][-1]["seq"], shown["counts"]["events"]) == (
            200,
            201,
            201,
        )

    def test_clear(self, client: FlaskClient) -> None:
        """Clearing forgets everything but the fault rules."""
        put_faults(client, {"status": 503, "count": 1})
        ingest(client, {"name": "a", "user": {"userId": "1"}})
        identify(client, userId="1")
        assert client.delete("/_sandbox/state").status_code == 204
        assert state(client)["people"] == state(client)["events"] == []
        assert not any(state(client)["counts"].values())
        faults = client.get("/_sandbox/faults").get_json()
        assert (len(faults["rules"]), faults["log"]) == (1, [])

    def test_kept_events_are_bounded(self) -> None:
        """Beyond the bound the oldest event goes; the numbers go on."""
        account = State(kept_events=2)
        for name in "abc":
            with account.changing():
                account.record(name, None, {})
        events, total = account.events_since(1)
        assert ([(event.seq, event.name) for event in events], total) == ([(2, "b"), (3, "c")], 3)


class TestFaults:
    """Faults over the application."""

    def test_status(self, client: FlaskClient) -> None:
        """A fault of ingest answers in ingest's form, and the request is not processed."""
        put_faults(client, {"status": 503, "retry_after": 7})
        answer = ingest(client, {"name": "a", "user": {"email": EMAIL}})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
        assert error(answer) == "Sandbox fault: Service Unavailable"
        assert state(client)["counts"] == {
            "requests": 1, "accepted": 0, "refused": 0, "faulted": 1, "people": 0, "objects": 0, "events": 0
        }  # fmt: skip

    def test_rest_envelope(self, client: FlaskClient) -> None:
        """A fault of the REST API answers in its envelope."""
        put_faults(client, {"status": 500})
        assert error(rest(client, "GET", "/fields"))["message"] == "Sandbox fault: Internal Server Error"

    def test_after(self, client: FlaskClient) -> None:
        """`after` does the work first: the event is there though the caller saw 503."""
        put_faults(client, {"status": 503, "after": True})
        assert ingest(client, {"name": "a", "user": {"userId": "1"}}).status_code == 503
        counts = state(client)["counts"]
        assert (counts["events"], counts["accepted"], counts["faulted"]) == (1, 1, 1)

    def test_count(self, client: FlaskClient) -> None:
        """A rule stops after its count."""
        put_faults(client, {"status": 503, "count": 2})
        codes = [ingest(client, {"name": "a", "user": {"userId": "1"}}).status_code for _ in range(3)]
        assert codes == [503, 503, 200]
        assert client.get("/_sandbox/faults").get_json()["rules"] == [{"status": 503, "count": 2, "hits": 2}]

    def test_path_and_order(self, client: FlaskClient) -> None:
        """The first rule that matches decides."""
        put_faults(client, {"status": 429, "path": "/api/v1/tags"}, {"status": 500, "path": "/api/"})
        assert rest(client, "POST", "/tags", {}).status_code == 429
        assert rest(client, "GET", "/fields").status_code == 500
        assert ingest(client, {"name": "a", "user": {"userId": "1"}}).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "/ingest/v1", {"name": "a", "user": {"email": EMAIL}}),
            ("POST", "/api/v1/tags", {"tag": "a", "email": EMAIL.upper()}),
            ("POST", "/api/v1/people", [{"userId": "1"}, {"email": EMAIL}]),
            ("POST", f"/api/v1/people/unsubscribe?email={EMAIL}", None),
            ("DELETE", f"/api/v1/people?people%5B0%5D%5Bemail%5D={EMAIL}", None),
        ],
    )
    def test_email(self, client: FlaskClient, method: str, path: str, body: Any) -> None:
        """A rule finds its e-mail wherever the APIs take one, and the log names it."""
        put_faults(client, {"status": 503, "email": EMAIL})
        assert client.open(path, method=method, json=body).status_code == 503
        log = client.get("/_sandbox/faults").get_json()["log"]
        entry = {
            "method": method,
            "path": path.partition("?")[0],
            "email": EMAIL,
            "rule": 0,
            "kind": "status",
        }
        assert entry.items() <= log[0].items()

    def test_other_email(self, client: FlaskClient) -> None:
        """Other people are not hit."""
        put_faults(client, {"status": 503, "email": OTHER})
        assert ingest(client, {"name": "a", "user": {"email": EMAIL}}).status_code == 200

    @pytest.mark.parametrize(
        ("body", "sent", "kind"),
        [
            ("<h1>Bad Gateway</h1>", b"<h1>Bad Gateway</h1>", "text/plain"),
            ({"a": [1]}, b'{"a": [1]}', "application/json"),
        ],
    )
    def test_body(self, client: FlaskClient, body: Any, sent: bytes, kind: str) -> None:
        """The body is sent raw when it is text, else as JSON."""
        put_faults(client, {"status": 502, "body": body})
        answer = ingest(client, {})
        assert (answer.data, answer.mimetype) == (sent, kind)

    @pytest.mark.parametrize("rule", [{"kind": "reset"}, {"kind": "hang", "delay_s": 0}])
    def test_no_answer(self, client: FlaskClient, rule: Json) -> None:
        """Without a socket to break, the broken connection is an exception."""
        put_faults(client, rule)
        with pytest.raises(ConnectionGone):
            ingest(client, {"name": "a", "user": {"userId": "1"}})
        assert state(client)["counts"]["accepted"] == 0

    def test_delay(self, client: FlaskClient) -> None:
        """A delayed request is served, and counts as faulted too."""
        put_faults(client, {"kind": "delay", "delay_s": 0.01})
        assert ingest(client, {"name": "a", "user": {"userId": "1"}}).status_code == 200
        counts = state(client)["counts"]
        assert (counts["accepted"], counts["faulted"]) == (1, 1)

    def test_console_is_never_hit(self, client: FlaskClient) -> None:
        """Faults hit the two APIs only."""
        put_faults(client, {"status": 503})
        assert client.get("/").status_code == client.get("/_sandbox/state").status_code == 200

    def test_delete(self, client: FlaskClient) -> None:
        """Deleting stops the faults and keeps the log."""
        put_faults(client, {"status": 503})
        ingest(client, {})
        assert client.delete("/_sandbox/faults").status_code == 204
        faults = client.get("/_sandbox/faults").get_json()
        assert (faults["rules"], faults["faulted"], len(faults["log"])) == ([], 1, 1)

    def test_refused_rules_change_nothing(self, client: FlaskClient) -> None:
        """A list with a bad rule is a 400 that names rule and key; the old rules stay."""
        put_faults(client, {"status": 503})
        answer = client.put("/_sandbox/faults", json=[{"status": 500}, {"status": 500, "rate": 2}])
        assert (answer.status_code, error(answer)) == (
            400,
            "rule 1: rate must be a number from 0 to 1, not 2",
        )
        assert len(client.get("/_sandbox/faults").get_json()["rules"]) == 1


class TestRules:
    """Reading rules, and their dice."""

    @pytest.mark.parametrize(
        ("rule", "text"),
        [
            (5, "rule 0: must be an object"),
            ({}, "rule 0: status is required"),
            ({"kind": "status", "status": None}, "rule 0: status is required"),
            ({"statsu": 503}, "rule 0: unknown key 'statsu'"),
            ({"kind": "explode"}, "rule 0: kind must be one of status, reset, hang, delay"),
            ({"kind": ["hang"]}, "rule 0: kind must be one of"),
            ({"status": 99}, "rule 0: status must be"),
            ({"status": True}, "rule 0: status must be"),
            ({"status": "503"}, "rule 0: status must be"),
            ({"status": []}, "rule 0: status must be"),
            ({"status": 503, "rate": "1"}, "rule 0: rate must be"),
            ({"status": 503, "rate": True}, "rule 0: rate must be"),
            ({"status": 503, "count": -1}, "rule 0: count must be"),
            ({"status": 503, "count": 1.5}, "rule 0: count must be"),
            ({"status": 503, "delay_s": -1}, "rule 0: delay_s must be"),
            ({"status": 503, "delay_s": 1e9}, "rule 0: delay_s must be"),
            ({"status": 503, "after": 1}, "rule 0: after must be"),
            ({"status": 503, "path": "api"}, "rule 0: path must be"),
            ({"status": 503, "email": 1}, "rule 0: email must be"),
            ({"status": 503, "retry_after": "1\r\nX: y"}, "rule 0: retry_after must be"),
            ({"status": 503, "retry_after": True}, "rule 0: retry_after must be"),
        ],
    )
    def test_refused(self, rule: Any, text: str) -> None:
        """The message names the rule and the key."""
        with pytest.raises(InvalidRule, match=text):
            parse_rules([rule])

    def test_not_a_list(self) -> None:
        """One rule without its list is refused."""
        with pytest.raises(InvalidRule, match="list"):
            parse_rules({"status": 503})

    def test_defaults(self) -> None:
        """A hang holds for a minute; null is as if absent."""
        rule = parse_rules([{"kind": "hang", "status": None, "count": None}])[0]
        assert (rule.delay_s, rule.rate, rule.count, rule.after) == (60.0, 1.0, None, False)

    @pytest.mark.parametrize(
        ("given", "sent"),
        [(7, "7"), (0.5, "0.5"), ("Sat, 21 Nov 2026 08:00:00 GMT", "Sat, 21 Nov 2026 08:00:00 GMT")],
    )
    def test_retry_after(self, given: Any, sent: str) -> None:
        """Seconds or a date."""
        assert parse_rules([{"status": 429, "retry_after": given}])[0].retry_after == sent

    def test_seed_repeats_the_dice(self) -> None:
        """The same seed draws the same hits and statuses; a rate is kept on the whole."""

        def draw() -> list[int | None]:
            faults = Faults()
            faults.replace(parse_rules([{"status": [503, 429], "rate": 0.3}]), seed=7)
            drawn = [faults.decide("/ingest/v1", tuple) for _ in range(1_000)]
            return [fault.status if fault else None for fault in drawn]

        first = draw()
        assert first == draw()
        assert set(first) == {None, 503, 429}
        assert 230 < len([status for status in first if status]) < 370

    def test_rate_zero(self) -> None:
        """A rule with rate 0 never hits."""
        faults = Faults()
        faults.replace(parse_rules([{"status": 503, "rate": 0}]))
        assert faults.decide("/ingest/v1", tuple) is None


class TestActivityStream:
    """The echo."""

    def echoed(self, *calls: tuple[str, str, Any]) -> list[Json]:
        bodies: list[Json] = []

        def post(body: Json) -> int:
            bodies.append(body)
            return 200

        stream = ActivityStream("", post=post)
        client = create_sandbox(activity_stream=stream).test_client()
        for method, path, body in calls:
            headers = WRITE if path.startswith(INGEST) else API
            assert client.open(path, method=method, json=body, headers=headers).status_code < 300
        stream.drain()
        assert state(client)["activity_stream"] == {
            "posted": len(bodies),
            "failed": 0,
            "dropped": 0,
            "waiting": 0,
        }
        return bodies

    def test_people(self) -> None:
        """Creation, tags, a real change and an unsubscription, in order; equal values are silent."""
        user = {"email": EMAIL, "plan": "free", "tags": "a"}
        changed = user | {"plan": "pro"}
        bodies = self.echoed(
            ("POST", INGEST, {"name": "identify", "user": user}),
            ("POST", INGEST, {"name": "identify", "user": user}),
            ("POST", INGEST, {"name": "identify", "user": changed}),
            ("DELETE", f"{REST}/tags", {"tag": "a", "email": EMAIL}),
            ("POST", f"{REST}/people/unsubscribe?email={EMAIL}", None),
        )
        assert [(body["event"], body["type"]) for body in bodies] == [
            ("newUser", "newUser"),
            ("added-tag-a", "tag"),
            ("updatedUser", "updatedUser"),
            ("removed-tag-a", "tag"),
            ("unsubscribedUser", "unsubscribedUser"),
        ]
        assert bodies[2]["properties"] == {
            "changedFields": {"plan": {"newValue": "pro", "oldValue": "free"}},
            "source": "api",
        }
        assert {body["user"]["email"] for body in bodies} == {EMAIL}
        assert len({body["user"]["id"] for body in bodies}) == 1

    def test_objects(self) -> None:
        """New, changed and deleted objects carry the object."""
        bodies = self.echoed(
            ("PUT", f"{REST}/objects/company", {"externalId": "g", "name": "A"}),
            ("PUT", f"{REST}/objects/company", {"externalId": "g", "name": "B"}),
            ("DELETE", f"{REST}/objects/company/externalId/g", None),
        )
        assert [body["event"] for body in bodies] == [
            "newObject-company", "updatedObject-company", "deletedObject-company"
        ]  # fmt: skip
        assert bodies[1]["object"] == {"id": 1, "externalId": "g", "name": "B"}
        assert bodies[1]["properties"]["changedFields"] == {"name": {"newValue": "B", "oldValue": "A"}}
        assert "user" not in bodies[0]

    def test_timestamp(self) -> None:
        """Unix time in milliseconds, a whole number."""
        change = Change("newUser", "newUser", {}, datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC))
        assert payload(change)["timestamp"] == 1_767_323_045_678

    def test_failures_are_counted(self) -> None:
        """An answer other than 2xx is a failure, and the next event goes on."""
        stream = ActivityStream("", post=lambda _: 500)
        for _ in range(2):
            stream.offer(Change("newUser", "newUser", {}, datetime.now(UTC)))
        stream.drain()
        assert stream.counts() == {"posted": 0, "failed": 2, "dropped": 0, "waiting": 0}

    def test_full_line_drops(self) -> None:
        """A receiver that is too slow loses events, and the sandbox does not wait for it."""
        taken, release = Signal(), Signal()

        def post(body: Json) -> int:
            taken.set()
            release.wait(5)
            return 200

        stream = ActivityStream("", post=post, queue_size=1)
        change = Change("newUser", "newUser", {}, datetime.now(UTC))
        stream.offer(change)
        assert taken.wait(5)
        for _ in range(3):
            stream.offer(change)
        assert stream.counts()["dropped"] == 2
        release.set()
        stream.drain()
        assert stream.counts()["posted"] == 2

    def test_equal_values_of_another_type_differ(self) -> None:
        """True is not 1 for somebody who looks at the field; an absent field with null is no change."""
        assert changed_fields({"a": 1}, {"a": True}) == {"a": {"newValue": True, "oldValue": 1}}
        assert changed_fields({"a": 1}, {"a": 1, "b": None}) == {}


def test_without_being_asked_the_page_shows_nobody() -> None:
    """How much arrived, when, and by which calls; nothing of what was sent, and no field's name."""
    quiet = create_sandbox(reveal=False).test_client()
    identify(quiet, email=EMAIL, userId="u-1", company="Acme", tags="vip")
    assert quiet.put("/_sandbox/faults", json=[{"status": 400, "email": EMAIL, "body": EMAIL}]).status_code == 200
    assert ingest(quiet, {"name": EMAIL, "user": {"email": EMAIL}}).status_code == 400
    told = {name: quiet.get(f"/_sandbox/{name}").text for name in ("state", "events", "calls", "faults", "health")}

    assert [word for word in (EMAIL, "u-1", "Acme", "vip", "company") if word in "".join(told.values())] == []
    state, (call,) = json.loads(told["state"]), json.loads(told["calls"])["calls"]
    assert (len(state["people"]), state["counts"]["accepted"]) == (1, 1)
    assert state["people"][0]["fields"] == {"…": "…"}
    assert (call["method"], call["status"]) == ("POST", 200)
    assert json.loads(told["health"]) == {"status": "ok"}
