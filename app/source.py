"""Who sends: how a request is verified and unwrapped, and the sources that sources.yaml declares."""

import base64
import dataclasses
import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, validate

from config.problems import ConfigurationRefused
from config.yaml_file import read
from tasks.envelope import Envelope


class Refusal(Exception):
    """A request that is not accepted; becomes the answer `{code, message}` with this status."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        super().__init__(f"{status} {code}")

    @property
    def answer(self) -> dict[str, str]:
        """The body of the answer."""
        return {"code": self.code, "message": self.message}


Unwrap = Callable[[str, Any, str | None, datetime], Sequence[Envelope]]
"""(source name, decoded body, event name from the path or None, time of receipt) → one envelope for each event.

Raises Refusal(400, …) when the body is not what this kind of source sends.
"""


@dataclasses.dataclass(frozen=True)
class Source:
    """One sender, as sources.yaml declares it."""

    name: str
    unwrap: Unwrap
    secrets: tuple[str, ...]
    secret_header: str = "X-Webhook-Secret"
    secret_parameter: str = "secret"
    max_body_bytes: int = 262_144
    max_depth: int = 64

    @cached_property
    def _known(self) -> tuple[bytes, ...]:
        return tuple(sha256(secret.encode()).digest() for secret in self.secrets)

    @cached_property
    def _header_key(self) -> str:
        return self.secret_header.upper().replace("-", "_")

    def verify(self, header: Callable[[str], str], parameter: Callable[[str], str]) -> None:
        """Let a request pass that knows one of our secrets, in any of the places where senders can put it.

        Authorization Bearer, Authorization Basic (as user or password), a header, a query parameter. Compared in
        constant time, and always with every secret. `header` takes names as CGI has them. Raises Refusal(401).
        """
        offered = _offered(header("AUTHORIZATION"))
        offered += [header(self._header_key), parameter(self.secret_parameter)]
        passed = False
        for value in filter(None, offered):
            digest = sha256(value.encode("utf-8", "surrogateescape")).digest()
            for secret in self._known:
                passed |= hmac.compare_digest(digest, secret)
        if not passed:
            raise Refusal(401, "unauthorized", "no valid secret", {"WWW-Authenticate": 'Bearer, Basic realm="events"'})


def _offered(authorization: str) -> list[str]:
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return [value]
    if scheme.lower() != "basic":
        return []
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:  # not base64, not ASCII, not UTF-8
        return []
    return [user, password]


_ENV_NAME: Final = validate.Regexp(r"^[A-Z][A-Z0-9_]*$", error="Must be the name of an environment variable.")


def _schema(kinds: Mapping[str, Unwrap]) -> Schema:
    source: dict[str, fields.Field[Any]] = {
        "kind": fields.String(
            required=True, validate=validate.OneOf(kinds, error="No kind of this name; there are: {choices}.")
        ),
        "secrets": fields.List(
            fields.String(validate=_ENV_NAME),
            required=True,
            validate=validate.Length(1, error="Name at least one environment variable."),
        ),
        "secret_header": fields.String(validate=validate.Regexp(r"^[A-Za-z0-9-]+$", error="Not a header's name.")),
        "secret_parameter": fields.String(validate=validate.Length(1)),
        "max_body_bytes": fields.Integer(strict=True, validate=validate.Range(1024, 64 * 1024 * 1024)),
        "max_depth": fields.Integer(strict=True, validate=validate.Range(4, 500)),
    }
    name = fields.String(
        validate=validate.Regexp(r"^[a-z0-9][a-z0-9_-]{0,63}$", error="Only a-z, 0-9, _ and -, at most 64.")
    )
    file: dict[str, fields.Field[Any]] = {
        "version": fields.Integer(required=True, strict=True, validate=validate.Equal(1)),
        "sources": fields.Dict(keys=name, values=fields.Nested(Schema.from_dict(source)), required=True),
    }
    return Schema.from_dict(file)()


def load(path: Path, environ: Mapping[str, str], kinds: Mapping[str, Unwrap]) -> dict[str, Source]:
    """Sources out of a file, their secrets out of the environment.

    Raises ConfigurationRefused with every problem. A source of which no secret is set is one: it would be open to all.
    """
    file = read(path)
    try:
        data = _schema(kinds).load(file.data if file.data is not None else {})
    except ValidationError as error:
        raise ConfigurationRefused(tuple(_problems(file, error))) from None
    sources = {}
    problems = []
    for name, entry in data["sources"].items():
        secrets = tuple(filter(None, (environ.get(env, "").strip() for env in entry["secrets"])))
        if not secrets:
            text = f"none of {', '.join(entry['secrets'])} is set in the environment; anyone could send"
            problems.append(file.problem(("sources", name, "secrets"), text))
        options = {key: value for key, value in entry.items() if key not in {"kind", "secrets"}}
        sources[name] = Source(name=name, unwrap=kinds[entry["kind"]], secrets=secrets, **options)
    if problems:
        raise ConfigurationRefused(tuple(problems))
    return sources


def _problems(file: Any, error: ValidationError) -> list[str]:
    messages = error.normalized_messages()
    # marshmallow puts {"key": …, "value": …} between a Dict field and its messages.
    sources = messages.get("sources")
    if isinstance(sources, dict):
        messages["sources"] = {
            name: found.get("value", found.get("key")) if isinstance(found, dict) else found
            for name, found in sources.items()
        }
    return list(file.problems(messages))
