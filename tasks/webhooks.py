"""The webhooks that a routes file declares: where they are, what signs them, whom their names may lead to.

    webhooks:
      crm: {url: "https://crm.example.com/events", secrets: [CRM_SECRET, CRM_SECRET_PREVIOUS], allow: [10.1.0.0/16]}

Secrets and signatures are those of Standard Webhooks:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import dataclasses
import ipaddress
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from marshmallow import Schema, ValidationError, fields, validate

from config.yaml_file import Place, YamlFile
from tasks.addresses import Allowed, refusal

#: Before the name of a webhook, where destinations are named.
PREFIX: Final = "webhook-"
KEY: Final = "webhooks"

_SECRET_PREFIX: Final = "whsec_"
_LEAST_SECRET, _MOST_SECRET = 24, 64
_SHAPE: Final = f"{_SECRET_PREFIX} and base64 of {_LEAST_SECRET} to {_MOST_SECRET} random bytes"
_NAME: Final = validate.Regexp(r"^[a-z0-9][a-z0-9_-]{0,55}$(?!\n)", error="Only a-z, 0-9, _ and -, at most 56.")
_ENV_NAME: Final = validate.Regexp(r"^[A-Z][A-Z0-9_]*$(?!\n)", error="Must be the name of an environment variable.")


@dataclasses.dataclass(frozen=True)
class Webhook:
    """One receiver, as a routes file declares it."""

    url: str
    secrets: tuple[str, ...]  #: names of environment variables; every one that is set signs
    allowed: Allowed
    place: str = ""  #: `file:line: key` of its secrets


class _EntrySchema(Schema):
    url = fields.String(required=True)
    secrets = fields.List(
        fields.String(validate=_ENV_NAME),
        required=True,
        validate=validate.Length(1, error="Name at least one environment variable."),
    )
    allow = fields.List(fields.String(), load_default=list)


def declared(file: YamlFile, problems: list[str]) -> dict[str, Webhook]:
    """The webhooks of a routes file by their names; what is wrong with the others is added to the problems."""
    entries = file.data.get(KEY) if isinstance(file.data, dict) else None
    if entries is None:
        return {}
    if not isinstance(entries, dict):
        problems.append(file.problem((KEY,), "must be names, each with url and secrets"))
        return {}
    found = {str(name): _entry(file, str(name), entry, problems) for name, entry in entries.items()}
    return {name: webhook for name, webhook in found.items() if webhook is not None}


def _entry(file: YamlFile, name: str, entry: Any, problems: list[str]) -> Webhook | None:
    place: Place = (KEY, name)
    before = len(problems)
    try:
        _NAME(name)
        data = _EntrySchema().load(entry)
    except ValidationError as error:
        problems.extend(file.problems(error.normalized_messages(), place))
        return None
    allowed = Allowed()
    try:
        allowed = Allowed.of(data["allow"])
    except ValueError as error:
        problems.append(file.problem((*place, "allow"), str(error)))
    wrong = _wrong_with(data["url"], allowed)
    if wrong:
        problems.append(file.problem((*place, "url"), wrong))
    where = file.problem((*place, "secrets"), "").removesuffix(": ")
    return Webhook(data["url"], tuple(data["secrets"]), allowed, where) if len(problems) == before else None


def _wrong_with(url: str, allowed: Allowed) -> str | None:
    """What can be said of an address before its name is looked up."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018 - parsing is what can fail
        host.encode("idna")
    except ValueError:
        return "is not a URL"
    if parts.scheme not in {"https", "http"} or not host or not url.isascii() or not url.isprintable() or " " in url:
        return "must be an https:// address"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "must have neither a user nor a password nor a fragment"
    return _not_allowed(parts, host, allowed)


def _not_allowed(parts: SplitResult, host: str, allowed: Allowed) -> str | None:
    try:
        what = refusal(host, host, allowed)
        trusted = any(ipaddress.ip_address(host) in network for network in allowed.networks)
    except ValueError:  # a name: it is looked up for each new connection
        what, trusted = None, host in allowed.hosts
    if what:
        return f"leads to an address that is {what}; name it in allow if that is meant"
    if parts.scheme == "http" and not trusted:
        return "must be an https:// address (http:// only for a host or address that allow names)"
    return None


def signing_keys(
    webhooks: Mapping[str, Webhook], environ: Mapping[str, str]
) -> tuple[dict[str, tuple[bytes, ...]], list[str]]:
    """The keys that sign for each webhook, the first secret's first; and what is wrong with the secrets."""
    keys: dict[str, tuple[bytes, ...]] = {}
    problems: list[str] = []
    for name, webhook in webhooks.items():
        texts = {variable: environ.get(variable, "").strip() for variable in webhook.secrets}
        found = {variable: _key(text) for variable, text in texts.items() if text}
        wrong = [f"{variable} must be {_SHAPE}" for variable, key in found.items() if key is None]
        if not found:
            wrong = [f"none of {', '.join(webhook.secrets)} is set in the environment; nothing could be signed"]
        problems += [f"{webhook.place}: {text}" for text in wrong]
        keys[name] = tuple(filter(None, found.values()))
    return keys, problems


def _key(secret: str) -> bytes | None:
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except ValueError:
        return None
    return key if _LEAST_SECRET <= len(key) <= _MOST_SECRET else None
