"""Webhooks in a routes file: what is right, what is wrong, and where."""

import base64
from pathlib import Path

import pytest

from config.problems import ConfigurationRefused
from tasks import webhooks
from tasks.routing import Routes, load

KEY = bytes(range(24))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
URL = "https://crm.example.com/hooks"
TOO_SHORT, TOO_LONG = (f"whsec_{base64.b64encode(b'x' * size).decode()}" for size in (23, 65))
SHAPE = "OWN_SECRET must be whsec_ and base64 of 24 to 64 random bytes"
MAPPING = '{to: crm, type: order.paid, data: {"@path": $.properties}}'
ROUTE = f"""
  - name: to-crm
    action: send_webhook
    mapping: {MAPPING}
"""
FILE = f"""version: 1
webhooks:
  crm:
    url: {URL}
    secrets: [CRM_SECRET, CRM_SECRET_PREVIOUS]
  own:
    url: http://127.0.0.1:8900/webhook
    secrets: [OWN_SECRET]
    allow: [127.0.0.0/8]
destinations:
  webhook-crm: {{requests_per_s: 5}}
routes:
{ROUTE}"""


def routes(folder: Path, text: str) -> Routes:
    (folder / "routes.yaml").write_text(text)
    return load(folder / "routes.yaml")


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationRefused) as caught:
        routes(folder, text)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_file_with_webhooks(tmp_path: Path) -> None:
    """They are destinations like others: with limits, and for routes."""
    found = routes(tmp_path, FILE)

    assert list(found.webhooks) == ["crm", "own"]
    assert found.webhooks["crm"].url == "https://crm.example.com/hooks"
    assert found.limits == {"webhook-crm": (5, None)}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (URL, "http://crm.example.com/hooks", "4: webhooks.crm.url: must be an https://"),
        (
            "https://crm.example.com/hooks",
            "https://10.0.0.1/",
            "4: webhooks.crm.url: leads to an address that is private",
        ),
        (
            "https://crm.example.com/hooks",
            "https://[::1]/",
            "4: webhooks.crm.url: leads to an address that is loopback",
        ),
        (
            "https://crm.example.com/hooks",
            "https://u:p@crm.example.com/",
            "4: webhooks.crm.url: must have neither a user",
        ),
        (
            "https://crm.example.com/hooks",
            "https://crm.example.com/#x",
            "4: webhooks.crm.url: must have neither a user",
        ),
        (URL, "ftp://crm.example.com/", "4: webhooks.crm.url: must be an https:// address"),
        (URL, "https://", "4: webhooks.crm.url: must be an https:// address"),
        (URL, "https://crm.example.com:x/", "4: webhooks.crm.url: is not a URL"),
        (URL, f"https://{'x' * 64}.com/", "4: webhooks.crm.url: is not a URL"),
        ("127.0.0.0/8", "10.0.0.0/8", "7: webhooks.own.url: leads to an address that is loopback"),
        ("127.0.0.0/8", "127.0.0.0/99", "9: webhooks.own.allow: 127.0.0.0/99 is neither"),
        ("[OWN_SECRET]", "[whsec_abc]", "8: webhooks.own.secrets.0: Must be the name of an environment variable."),
        ("[OWN_SECRET]", "[]", "8: webhooks.own.secrets: Name at least one environment variable."),
        ("allow: [127.0.0.0/8]", "allowed: []", "9: webhooks.own.allowed: Unknown field."),
        ("  own:", "  Own:", "6: webhooks.Own: Only a-z, 0-9, _ and -, at most 56."),
        ("  webhook-crm:", "  webhook-crn:", "11: destinations.webhook-crn: No destination of this name; there are: "),
        ("to: crm", "to: crn", "mapping.to: must be the name of a webhook of this file; there are: crm, own"),
        ("to: crm", 'to: {"@path": $.to}', "mapping.to: must be the name of a webhook of this file"),
        (
            '{to: crm, type: order.paid, data: {"@path": $.properties}}',
            '{"@path": $.all}',
            "mapping.to: must be the name",
        ),
    ],
)
def test_problems(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """Each with its line and key; an event's data never chooses the receiver."""
    assert FILE.count(old) >= 1

    found = problems(tmp_path, FILE.replace(old, new))

    assert any(problem in each for each in found), found


def test_all_that_is_set_signs(tmp_path: Path) -> None:
    """In the order of the file: for the time of a change two, then one again."""
    declared = routes(tmp_path, FILE).webhooks
    previous = base64.b64encode(KEY[::-1]).decode()

    keys, wrong = webhooks.signing_keys(
        declared, {"CRM_SECRET": SECRET, "CRM_SECRET_PREVIOUS": previous, "OWN_SECRET": SECRET}
    )

    assert (keys, wrong) == ({"crm": (KEY, KEY[::-1]), "own": (KEY,)}, [])


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "none of OWN_SECRET is set in the environment; nothing could be signed"),
        ("whsec_no base64!", "OWN_SECRET must be whsec_ and base64 of 24 to 64 random bytes"),
        (
            "whsec_" + base64.b64encode(b"x" * 23).decode(),
            "OWN_SECRET must be whsec_ and base64 of 24 to 64 random bytes",
        ),
        (
            "whsec_" + base64.b64encode(b"x" * 65).decode(),
            "OWN_SECRET must be whsec_ and base64 of 24 to 64 random bytes",
        ),
    ],
)
def test_secrets_that_will_not_do(tmp_path: Path, secret: str, problem: str) -> None:
    """The line of the file, the variable, and never what is in it."""
    declared = routes(tmp_path, FILE).webhooks

    _, (wrong,) = webhooks.signing_keys(declared, {"CRM_SECRET": SECRET, "OWN_SECRET": secret})

    assert wrong.replace(f"{tmp_path}/", "") == f"routes.yaml:8: webhooks.own.secrets: {problem}"
