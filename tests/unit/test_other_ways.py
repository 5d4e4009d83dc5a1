"""Routes to ActivatePro, Segment and webhooks: what is asked for at the start, and what explain shows."""

import base64
from pathlib import Path
from typing import Any

import pytest
from builders import EMAIL, envelope

from config.problems import ConfigurationRefused
from config.settings import load as settings_of
from tasks import worker
from tasks.destinations import destinations
from tasks.explaining import Explainer
from tasks.routing import load

SECRET = "whsec_" + base64.b64encode(b"s" * 24).decode()
TAG = "{name: tag, action: tag_user, mapping: {tag: x}}"
UPLOAD = '{name: upload, action: upload_event, mapping: {event: Viewed, email: {"@path": $.user.email}}}'
SEGMENT = '{name: track, action: send_to_segment, mapping: {type: track, event: Joined, userId: {"@path": $.user.id}}}'
WEBHOOK = '{name: hook, action: send_webhook, mapping: {to: crm, type: user.created, data: {"@path": $.user}}}'
HANDLER = '{name: own, handler: "json:dumps"}'
NOTHING = "nothing could be delivered"
CRM = "webhooks: {crm: {url: 'https://crm.example.com/hooks', secrets: [CRM_SECRET]}}\n"


def file(folder: Path, *routes: str, head: str = "") -> str:
    path = folder / "routes.yaml"
    path.write_text(f"version: 1\n{head}routes: [{', '.join(routes)}]\n")
    return str(path)


@pytest.mark.parametrize(
    ("routes", "environ", "problems"),
    [
        ([TAG], {}, ["environment: ENCHARGE_WRITE_KEY: is not set; nothing could be delivered for tag"]),
        ([TAG], {"ENCHARGE_WRITE_KEY": "k"}, []),
        ([], {}, ["environment: ENCHARGE_WRITE_KEY: is not set; nothing could be delivered"]),
        ([HANDLER], {}, ["environment: ENCHARGE_WRITE_KEY: is not set; nothing could be delivered"]),
        ([HANDLER], {"ACTIVATEPRO_TOKEN": "k"}, []),
        ([UPLOAD], {"ACTIVATEPRO_TOKEN": "k"}, []),
        (
            [TAG, UPLOAD, SEGMENT],
            {"ENCHARGE_WRITE_KEY": "k"},
            [
                "environment: ACTIVATEPRO_TOKEN: is not set; nothing could be delivered for upload",
                "environment: SEGMENT_WRITE_KEY: is not set; nothing could be delivered for track",
            ],
        ),
        (
            [UPLOAD.replace("upload,", f"upload-{number},") for number in range(5)],
            {},
            [
                f"environment: ACTIVATEPRO_TOKEN: is not set; {NOTHING} for upload-0, upload-1, upload-2 … (5 routes)",
            ],
        ),
        ([WEBHOOK], {"CRM_SECRET": SECRET}, []),
    ],
)
def test_keys_that_routes_need(tmp_path: Path, routes: list[str], environ: dict[str, str], problems: list[str]) -> None:
    """A key is asked for when a route needs it, and the route is named."""
    given = {"ROUTES_FILE": file(tmp_path, *routes, head=CRM if WEBHOOK in routes else ""), **environ}

    found: tuple[str, ...] = ()
    try:
        worker.configuration(given)
    except ConfigurationRefused as refused:
        found = refused.problems

    assert list(found) == problems


def test_a_webhook_without_a_secret(tmp_path: Path) -> None:
    """The line of the file, and the variables."""
    path = file(tmp_path, WEBHOOK, head=CRM)

    with pytest.raises(ConfigurationRefused) as caught:
        worker.configuration({"ROUTES_FILE": path})

    text = "none of CRM_SECRET is set in the environment; nothing could be signed"
    assert list(caught.value.problems) == [f"{path}:2: webhooks.crm.secrets: {text}"]


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, {"webhook-crm"}),
        ({"ENCHARGE_WRITE_KEY": "k"}, {"encharge_ingest", "encharge_api", "webhook-crm"}),
        ({"ACTIVATEPRO_TOKEN": "k", "SEGMENT_WRITE_KEY": "k"}, {"activatepro", "segment", "webhook-crm"}),
    ],
)
def test_what_can_be_reached(tmp_path: Path, environ: dict[str, str], names: set[str]) -> None:
    """A destination without its key is none: no thread of a worker is kept for it."""
    routes = load(Path(file(tmp_path, WEBHOOK, head=CRM)))

    found = worker.reachable(settings_of(environ), routes, {"CRM_SECRET": SECRET})

    assert found.keys() == names


def shown(folder: Path, route: str) -> Any:
    routes = load(Path(file(folder, route, head=CRM)))
    (outcome,) = Explainer(routes, destinations(settings_of({}), routes.webhooks)).explain(envelope())
    (request,) = outcome.requests
    return request


def test_explained_activatepro(tmp_path: Path) -> None:
    """The exact request, the event's own time included; the token left out. No secret need be set."""
    assert shown(tmp_path, UPLOAD) == {
        "method": "POST",
        "url": "https://api.crossengage.io/events",
        "headers": {
            "X-XNG-AuthToken": "(the key)",
            "X-XNG-ApiVersion": "1",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "event-router",
        },
        "body": {"email": EMAIL, "events": [{"event": "Viewed", "timestamp": "2026-01-02T03:04:05.000Z"}]},
    }


def test_explained_segment(tmp_path: Path) -> None:
    """As if the event went alone; a retry has the same message id."""
    assert shown(tmp_path, SEGMENT) == {
        "method": "POST",
        "url": "https://api.segment.io/v1/batch",
        "headers": {
            "Authorization": "(the key)",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "User-Agent": "event-router",
        },
        "body": {
            "batch": [
                {
                    "timestamp": "2026-01-02T03:04:05.000Z",
                    "messageId": "e1:track",
                    "type": "track",
                    "userId": "1",
                    "event": "Joined",
                }
            ]
        },
    }


def test_explained_webhook(tmp_path: Path) -> None:
    """All but the time of sending and the signature."""
    found = shown(tmp_path, WEBHOOK)

    assert found["headers"].pop("webhook-id").startswith("msg_")
    assert found == {
        "method": "POST",
        "url": "https://crm.example.com/hooks",
        "headers": {
            "Content-Type": "application/json",
            "User-Agent": "event-router",
            "webhook-timestamp": "(the time of sending)",
            "webhook-signature": "v1,(the signature)",
        },
        "body": {
            "type": "user.created",
            "timestamp": "2026-01-02T03:04:05.000Z",
            "data": {"id": "1", "email": EMAIL},
        },
    }


def test_an_event_that_is_for_others(tmp_path: Path) -> None:
    """Segment's `integrations` keep an event from us as from any destination, but not from Segment itself."""
    routes = load(Path(file(tmp_path, TAG, UPLOAD, SEGMENT, WEBHOOK, head=CRM)))
    call = {"type": "identify", "userId": "1", "integrations": {"All": False, "ActivatePro": True}}

    assert [route.name for route in routes.match(envelope(format="segment", event=call))] == ["upload", "track"]
