"""Who is let in."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers, MultiDict

from app.source import Refusal, Source

SECRET = "s3cret"


def source(secrets: Sequence[str] = (SECRET,), **options: Any) -> Source:
    return Source(name="encharge", unwrap=lambda *_: [], secrets=tuple(secrets), **options)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def refusal(target: Source, headers: dict[str, str], parameters: dict[str, str]) -> Refusal | None:
    try:
        given, asked = Headers(headers), MultiDict(parameters)
        target.verify(lambda name: given.get(name.replace("_", "-"), ""), lambda name: asked.get(name, ""))
    except Refusal as refused:
        return refused
    return None


def passes(target: Source, headers: dict[str, str] | None = None, parameters: dict[str, str] | None = None) -> bool:
    found = refusal(target, headers or {}, parameters or {})
    assert found is None or (found.status, found.code, *found.headers) == (401, "unauthorized", "WWW-Authenticate")
    return found is None


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({"Authorization": f"Bearer {SECRET}"}, {}),
        ({"Authorization": f"bearer   {SECRET} "}, {}),
        (basic(SECRET, ""), {}),
        (basic("encharge", SECRET), {}),
        (basic(SECRET, "x"), {}),
        ({"X-Webhook-Secret": SECRET}, {}),
        ({"x-webhook-secret": SECRET}, {}),
        ({}, {"secret": SECRET}),
        ({"Authorization": "Bearer wrong", "X-Webhook-Secret": SECRET}, {}),
        ({"Authorization": "Basic !!!", "X-Webhook-Secret": SECRET}, {}),
    ],
)
def test_the_secret_in_any_place(headers: dict[str, str], parameters: dict[str, str]) -> None:
    """Bearer, Basic as user or password, a header, a parameter: any one will do."""
    assert passes(source(), headers, parameters)


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({}, {}),
        ({"Authorization": SECRET}, {}),
        ({"Authorization": f"Digest {SECRET}"}, {}),
        ({"Authorization": "Bearer"}, {}),
        ({"Authorization": "Bearer "}, {}),
        ({"Authorization": f"Bearer {SECRET}x"}, {}),
        ({"Authorization": f"Bearer {SECRET[:-1]}"}, {}),
        ({"Authorization": f"Bearer {SECRET.upper()}"}, {}),
        (basic("", ""), {}),
        (basic("a", "b"), {}),
        ({"Authorization": "Basic"}, {}),
        ({"Authorization": "Basic !!!"}, {}),
        ({"Authorization": "Basic //8="}, {}),
        ({"Authorization": "Basic " + b64encode(b"\xff:\xff").decode()}, {}),
        ({"X-Webhook-Secret": ""}, {"secret": ""}),
        ({"X-Other": SECRET}, {"other": SECRET}),
    ],
)
def test_anything_else_stays_out(headers: dict[str, str], parameters: dict[str, str]) -> None:
    """401, with the ways to say who one is."""
    assert not passes(source(), headers, parameters)


def test_basic_outside_of_ascii() -> None:
    """Junk is no secret, whatever bytes it is made of."""
    assert not passes(source(), {"Authorization": "Basic \xe9"})


@pytest.mark.parametrize("secrets", [["", SECRET], [""]])
def test_nothing_never_passes(secrets: list[str]) -> None:
    """Not even where an empty secret came into the settings."""
    assert not passes(source(secrets), {"Authorization": "Bearer ", "X-Webhook-Secret": ""}, {"secret": ""})
    assert not passes(source(secrets), basic("", ""))


@pytest.mark.parametrize("secret", ["old", "new"])
def test_rotation(secret: str) -> None:
    """While a secret is changed, the old and the new one are valid."""
    assert passes(source(["new", "old"]), {"Authorization": f"Bearer {secret}"})
    assert not passes(source(["new", "old"]), {"Authorization": "Bearer newold"})


def test_other_places() -> None:
    """Header and parameter may have other names; the usual ones are then strangers."""
    target = source(secret_header="X-Key", secret_parameter="key")

    assert passes(target, {"x-key": SECRET})
    assert passes(target, {}, {"key": SECRET})
    assert not passes(target, {"X-Webhook-Secret": SECRET}, {"secret": SECRET})


def test_a_secret_outside_of_ascii() -> None:
    """In Basic and in a parameter, both of which carry UTF-8."""
    target = source(["gehéim"])

    assert passes(target, basic("x", "gehéim"))
    assert passes(target, {}, {"secret": "gehéim"})
    assert not passes(target, {}, {"secret": "geheim"})


@settings(max_examples=40)
@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_no_header_raises(value: str) -> None:
    """Whatever stands in Authorization is a secret, or none."""
    assert not passes(source(["not this one, it is too long to be found"]), {"Authorization": value})
    assert not passes(source(["not this one, it is too long to be found"]), {"Authorization": f"Basic {value}"})
