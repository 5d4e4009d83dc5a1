"""Activity Sync 0.0, which tenants send that have not moved: turned into the form of 1.0, where it is known how.

That format, in parts: https://help-enterprise.pendula.com/hc/en-us/articles/10936082542351-Activity-Sync-examples and
https://help-enterprise.pendula.com/hc/en-us/articles/5180628844303. What became of its kinds:
https://help-enterprise.pendula.com/hc/en-us/articles/12862157881487.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

Json = Mapping[str, Any]

#: Top-level keys that 1.0 keeps under data.
_ONLY_HERE: Final = frozenset({"experienceId", "payload", "outcome"})
#: Top-level keys that both forms have, and those that become something else.
_COMMON: Final = frozenset({"version", "timestamp", "workflowContext", "customContext", "kind", "experienceId", "pii"})


class NotConvertible(ValueError):
    """What 0.0 said here has no known place in 1.0; the text names fields, never values."""


def is_v0(event: Json) -> bool:
    """Whether an event that names no version is of this one."""
    kind = event.get("kind")
    return bool(_ONLY_HERE & event.keys()) or (isinstance(kind, str) and kind in _CONVERTED)


def converted(event: Json) -> dict[str, Any]:
    """The event in the form of 1.0. Raises NotConvertible."""
    kind = event.get("kind")
    convert = _CONVERTED.get(kind) if isinstance(kind, str) else None
    if convert is None and isinstance(kind, str) and kind.startswith("inbound"):
        convert = _inbound
    if convert is None:
        raise NotConvertible("no known form in version 1.0")
    new_kind, data, pii = convert(event)
    own = event.get("pii") or []
    if not isinstance(own, list):
        raise NotConvertible("pii must be a list of texts")
    return {
        "version": "1.0",
        **{key: event[key] for key in ("timestamp", "tenantId") if key in event},
        "workflowContext": _workflow_context(event),
        "customContext": event.get("customContext") or {},
        "kind": new_kind,
        "data": data,
        "pii": [*own, *(key for key in pii if key in data and key not in own)],
    }


#: New kind, data, keys of data that are personal.
_Made = tuple[str, dict[str, Any], tuple[str, ...]]


def _experience_start(_event: Json) -> _Made:
    return "experience-start", {}, ()


def _experience_finish(event: Json) -> _Made:
    succeeded = _success(event.get("outcome"))
    if succeeded is None:
        raise NotConvertible("outcome is neither success nor failure")
    return (
        "experience-complete" if succeeded else "experience-failed",
        {key: event[key] for key in ("endPoint",) if key in event},
        (),
    )


def _success(outcome: Any) -> bool | None:
    """An outcome is a word, or an object that has one of the two words as a key."""
    if isinstance(outcome, dict) and outcome.keys() & {"success", "failure"}:
        return bool(outcome["success"]) if isinstance(outcome.get("success"), bool) else "success" in outcome
    return {"success": True, "failure": False}.get(outcome) if isinstance(outcome, str) else None


def _queued(event: Json) -> _Made:
    payload = event.get("payload")
    payload = payload if isinstance(payload, dict) else {}
    message = _message(event)
    if payload.get("kind") == "email":
        names = {"sender": "from", "replyTo": "replyTo", "recipient": "to", "subject": "subject", "body": "body"}
        data = {name: payload[key] for key, name in names.items() if key in payload}
        return "outbound-email", {**message, **data}, ("from", "replyTo", "to", "subject", "body")
    if payload.get("kind") == "sms":
        data = {key: payload[key] for key in ("recipient", "body") if key in payload}
        return "outbound-sms", {**data, **message}, ("body", "recipient")
    raise NotConvertible("payload.kind is neither email nor sms")


def _sent_to_gateway(event: Json) -> _Made:
    return "message-sent", {**_message(event), **_rest(event)}, ("detail",)


def _validation_failed(event: Json) -> _Made:
    errors = event.get("errors")
    texts = [each.get("errorMessage") for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    detail = "; ".join(text for text in texts if isinstance(text, str))
    return "message-failed", {**_message(event), "detail": detail}, ("detail",)


def _same_kind(event: Json) -> _Made:
    """A kind that 1.0 kept; what lay flat goes into data."""
    return str(event["kind"]), {**_message(event), **_rest(event)}, ("detail",)


def _inbound(event: Json) -> _Made:
    payload = event.get("payload")
    said = {**(payload if isinstance(payload, dict) else {}), **_rest(event)}
    kind = str(event["kind"])
    if not isinstance(said.get("sender"), str):
        raise NotConvertible("no sender")
    if "unmatched" in kind:
        return "inbound-sms-unmatched", said, ("sender", "body")
    if "matched" in kind or "trigger" in kind:
        return "inbound-sms-matched", said, ("sender", "body", "matchedIntentKey", "matchedPart")
    raise NotConvertible("neither matched nor unmatched")


def _message(event: Json) -> dict[str, Any]:
    if not isinstance(event.get("messageId"), str):
        raise NotConvertible("no messageId")
    return {"messageId": event["messageId"]}


def _rest(event: Json) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in _COMMON | {"payload"}}


def _workflow_context(event: Json) -> dict[str, Any]:
    """What there is, with experienceId where 1.0 has it."""
    said = event.get("workflowContext")
    context = dict(said) if isinstance(said, dict) else {}
    inner = context.get("experienceContext")
    experience = dict(inner) if isinstance(inner, dict) else {}
    if "experienceId" in event:
        experience.setdefault("experienceId", event["experienceId"])
    return {**context, "experienceContext": experience} if experience else context


_CONVERTED: Final[Mapping[str, Callable[[Json], _Made]]] = {
    "experience-start": _experience_start,
    "experience-finish": _experience_finish,
    "queued": _queued,
    "sent-to-gateway": _sent_to_gateway,
    "validation-failed": _validation_failed,
    **dict.fromkeys(("message-sent", "message-delivered", "message-failed", "message-opened"), _same_kind),
}
