"""Who sends: how a request is verified and unwrapped, and the sources that sources.yaml declares."""

import base64
import dataclasses
import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, validate

from app.kinesis.stream import Stream, StreamSchema
from config.problems import ConfigurationRefused
from config.yaml_file import YamlFile, read
from tasks.envelope import Envelope, Rejected


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


Unwrap = Callable[[str, Any, str | None, datetime, str | None], Sequence[Envelope | Rejected]]
"""(source name, decoded body, event name from the path or None, time of receipt, delivery) → one for each event.

`delivery` names what carried the body, where that comes again under the same name (a stream's record).
Raises Refusal(400, …) when the body is not what this kind of source sends.
"""


@dataclasses.dataclass(frozen=True)
class Kind:
    """Whose format a source speaks, and how its requests are known."""

    unwrap: Unwrap | None = None  #: None = not at /webhooks/
    signed: bool = False  #: the secret signs the body (X-Signature) instead of coming along with it
    write_keys: bool = False  #: known by write keys, not by secrets; has addresses of its own
    several: bool = False  #: a body at /webhooks/ may hold several events: a list, or one a line
    #: Keys, at any depth, whose values are about a person: shown to nobody who does not ask for it.
    personal: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Source:
    """One sender, as sources.yaml declares it."""

    name: str
    unwrap: Unwrap | None
    secrets: tuple[str, ...] = ()
    signed: bool = False
    several: bool = False
    write_keys: Mapping[str, str] = dataclasses.field(default_factory=dict)  #: name of the key → the key
    allowed_origins: tuple[str, ...] = ("*",)
    trusted_proxies: int = 0
    secret_header: str = "X-Webhook-Secret"
    secret_parameter: str = "secret"
    max_body_bytes: int = 262_144
    max_request_bytes: int = 16 * 1024 * 1024  #: at /firehose/
    max_depth: int = 64
    order: bool = True  #: whether events of one subject are worked in their order
    when_full: str = "spool"  #: or "refuse": what happens to events while Redis is full
    kinesis: Stream | None = None  #: where its events are read too; then it may have no secrets, and nobody can post
    personal: tuple[str, ...] = ()  #: keys about a person, beside those of its kind

    @cached_property
    def _known(self) -> tuple[bytes, ...]:
        return tuple(sha256(secret.encode()).digest() for secret in self.secrets)

    @cached_property
    def _header_key(self) -> str:
        return self.secret_header.upper().replace("-", "_")

    def wanted(self, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
        """The envelopes as this source wants them: with its keys about a person; without order, without a subject."""
        marked = [self._marked(each) for each in envelopes] if self.personal else envelopes
        return marked if self.order else [dataclasses.replace(each, subject=None) for each in marked]

    def refused(self, rejected: Sequence[Rejected]) -> Sequence[Rejected]:
        """Events that become dead letters, with its keys about a person."""
        if not self.personal:
            return rejected
        return [dataclasses.replace(each, envelope=self._marked(each.envelope)) for each in rejected]

    def _marked(self, envelope: Envelope) -> Envelope:
        return dataclasses.replace(envelope, personal=self.personal)

    def verify(self, header: Callable[[str], str], parameter: Callable[[str], str]) -> None:
        """Let a request pass that knows one of our secrets, in any of the places where senders can put it.

        Authorization Bearer, Authorization Basic (as user or password), a header, a query parameter. Compared in
        constant time, and always with every secret. `header` takes names as CGI has them. Raises Refusal(401).
        """
        offered = _offered(header("AUTHORIZATION"))
        offered += [header(self._header_key), parameter(self.secret_parameter)]
        if not self.knows(offered):
            raise Refusal(401, "unauthorized", "no valid secret", {"WWW-Authenticate": 'Bearer, Basic realm="events"'})

    def knows(self, offered: Iterable[str]) -> bool:
        """Whether one of our secrets is among them. Compared in constant time, and always with every secret."""
        passed = False
        for value in filter(None, offered):
            digest = sha256(value.encode("utf-8", "surrogatepass")).digest()  # JSON may hold half a character
            for secret in self._known:
                passed |= hmac.compare_digest(digest, secret)
        return passed

    def verify_signature(self, signature: str, body: bytes) -> None:
        """Let a body pass that is signed with one of our secrets. Raises Refusal(401).

        X-Signature of Segment's Webhooks destination: hex HMAC-SHA1 of the body, of a batch only of its first item
        (github.com/segmentio/action-destinations, packages/destination-actions/src/destinations/webhook). So the
        signature says nothing of a batch's other items; TLS and an address that nobody knows must do.
        """
        signed = _first_item(body)
        passed = False
        for secret in self.secrets:
            expected = hmac.new(secret.encode(), signed, sha1).hexdigest()
            passed |= hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape"))
        if not passed:
            raise Refusal(401, "unauthorized", "no valid signature in X-Signature")


def _first_item(body: bytes) -> bytes:
    """The text of a JSON list's first item, or the whole text. What is no JSON is compared as it is, and fails."""
    try:
        text = body.decode()
        if not text.startswith("["):
            return body
        _, end = json.JSONDecoder().raw_decode(text, 1)
    except (ValueError, RecursionError):
        return body
    return text[1:end].encode()


def _offered(authorization: str) -> list[str]:
    scheme, _, value = authorization.partition(" ")
    return [value.strip()] if scheme.lower() == "bearer" else _basic(authorization)


def basic_user(authorization: str) -> str | None:
    """The user of an Authorization header of scheme Basic, with or without a colon behind it."""
    return next(iter(_basic(authorization)), None)


def _basic(authorization: str) -> list[str]:
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() != "basic":
        return []
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:  # not base64, not ASCII, not UTF-8
        return []
    return [user, password]


_ENV_NAME: Final = validate.Regexp(r"^[A-Z][A-Z0-9_]*$", error="Must be the name of an environment variable.")


_WRITE_KEYS: Final = fields.Dict(
    keys=fields.String(validate=validate.Regexp(r"^[a-z0-9][a-z0-9_-]{0,63}$", error="Only a-z, 0-9, _ and -.")),
    values=fields.String(validate=_ENV_NAME),
    required=True,
    validate=validate.Length(1, error="Name at least one write key and its environment variable."),
)
_LIMITS: Final[dict[str, fields.Field[Any]]] = {
    "max_depth": fields.Integer(strict=True, validate=validate.Range(4, 500)),
    "trusted_proxies": fields.Integer(strict=True, validate=validate.Range(0, 10)),
}
_PERSONAL_KEY: Final = validate.Regexp(r"^(?=.*[^\W_]).{1,100}$", error="Not a key: a text with a letter or digit.")
_FLOW: Final[dict[str, fields.Field[Any]]] = {
    "order": fields.Boolean(truthy={True}, falsy={False}),
    "when_full": fields.String(validate=validate.OneOf(["spool", "refuse"], error="Must be spool or refuse.")),
    "personal": fields.List(fields.String(validate=_PERSONAL_KEY), validate=validate.Length(1, 100)),
}
_WEBHOOK: Final[dict[str, fields.Field[Any]]] = {
    "max_body_bytes": fields.Integer(strict=True, validate=validate.Range(1024, 64 * 1024 * 1024)),
}
_SECRET_PLACES: Final[dict[str, fields.Field[Any]]] = {
    # The most that Firehose sends: https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html
    "max_request_bytes": fields.Integer(strict=True, validate=validate.Range(65_536, 64 * 1024 * 1024)),
    "secret_header": fields.String(validate=validate.Regexp(r"^[A-Za-z0-9-]+$", error="Not a header's name.")),
    "secret_parameter": fields.String(validate=validate.Length(1)),
}
_KINESIS: Final[dict[str, fields.Field[Any]]] = {"kinesis": fields.Nested(StreamSchema)}
_ORIGINS: Final[dict[str, fields.Field[Any]]] = {
    "allowed_origins": fields.List(fields.String(validate=validate.Length(1)), validate=validate.Length(1)),
}


def _entry_schema(kind: Kind, *, streamed: bool) -> Schema:
    """What an entry of that kind may say; one that is read from a stream need not be open to posts."""
    entry: dict[str, fields.Field[Any]] = {"kind": fields.Raw()}
    if kind.write_keys:
        return Schema.from_dict({**entry, "write_keys": _WRITE_KEYS, **_LIMITS, **_FLOW, **_ORIGINS})()
    entry |= {"secrets": _secrets(required=not streamed), **_LIMITS, **_FLOW, **_WEBHOOK}
    return Schema.from_dict(entry if kind.signed else {**entry, **_SECRET_PLACES, **_KINESIS})()


def _secrets(*, required: bool) -> fields.Field[Any]:
    return fields.List(
        fields.String(validate=_ENV_NAME),
        required=required,
        validate=validate.Length(1, error="Name at least one environment variable."),
    )


class _FileSchema(Schema):
    version = fields.Integer(required=True, strict=True, validate=validate.Equal(1))
    sources = fields.Dict(
        keys=fields.String(
            validate=validate.Regexp(r"^[a-z0-9][a-z0-9_-]{0,63}$", error="Only a-z, 0-9, _ and -, at most 64.")
        ),
        values=fields.Raw(),
        required=True,
    )


def load(path: Path, environ: Mapping[str, str], kinds: Mapping[str, Kind]) -> dict[str, Source]:
    """Sources out of a file, their secrets and write keys out of the environment.

    Raises ConfigurationRefused with every problem. A source of which no secret is set is one: it would be open to all.
    """
    file = read(path)
    problems: list[str] = []
    try:
        _FileSchema().load(file.data if file.data is not None else {})
    except ValidationError as error:
        problems += _problems(file, error)
    entries = file.data.get("sources") if isinstance(file.data, dict) else None
    sources = {}
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        kind, checked = _checked(file, name, entry, kinds, problems)
        if checked is not None:
            sources[name] = _source(file, name, kind, checked, environ, problems)
    if problems:
        raise ConfigurationRefused(tuple(problems))
    return sources


def _checked(
    file: YamlFile, name: str, entry: Any, kinds: Mapping[str, Kind], problems: list[str]
) -> tuple[Kind, dict[str, Any] | None]:
    """An entry's kind, and the entry when there is nothing wrong with it."""
    before = len(problems)
    named = entry.get("kind") if isinstance(entry, dict) else None
    if isinstance(entry, dict) and (not isinstance(named, str) or named not in kinds):
        known = f"No kind of this name; there are: {', '.join(kinds)}."
        text = known if "kind" in entry else "Missing data for required field."
        problems.append(file.problem(("sources", name, "kind"), text))
    kind = kinds.get(named, Kind()) if isinstance(named, str) else Kind()
    try:
        streamed = isinstance(entry, dict) and "kinesis" in entry and not (kind.signed or kind.write_keys)
        checked: dict[str, Any] = _entry_schema(kind, streamed=streamed).load(entry)
    except ValidationError as error:
        problems += file.problems(error.normalized_messages(), ("sources", name))
        return kind, None
    return kind, checked if len(problems) == before else None


def _source(
    file: YamlFile, name: str, kind: Kind, entry: dict[str, Any], environ: Mapping[str, str], problems: list[str]
) -> Source:
    entry = {key: value for key, value in entry.items() if key != "kind"}
    key = "write_keys" if kind.write_keys else "secrets"
    named = entry.pop(key, ())
    variables = list(named.values()) if kind.write_keys else named
    if variables and not any(environ.get(variable, "").strip() for variable in variables):
        text = f"none of {', '.join(variables)} is set in the environment; anyone could send"
        problems.append(file.problem(("sources", name, key), text))
    for several in ("allowed_origins", "personal"):
        if several in entry:
            entry[several] = tuple(entry[several])
    if kind.write_keys:
        keys = {each: environ.get(variable, "").strip() for each, variable in named.items()}
        return Source(name, kind.unwrap, write_keys={each: value for each, value in keys.items() if value}, **entry)
    secrets = tuple(filter(None, (environ.get(variable, "").strip() for variable in named)))
    return Source(name, kind.unwrap, secrets, kind.signed, kind.several, **entry)


def _problems(file: YamlFile, error: ValidationError) -> list[str]:
    messages = error.normalized_messages()
    # marshmallow puts {"key": …} between a Dict field and the messages of its keys.
    sources = messages.get("sources")
    if isinstance(sources, dict):
        messages["sources"] = {
            name: found.get("key", found) if isinstance(found, dict) else found for name, found in sources.items()
        }
    return list(file.problems(messages))
