"""Sources that are read from a Kinesis stream, as sources.yaml declares them."""

from pathlib import Path

import pytest

from app.kinesis import process
from app.kinesis.stream import Stream
from app.source import Refusal, Source, load
from app.sources import KINDS
from config.problems import ConfigurationRefused


def sources(tmp_path: Path, text: str) -> dict[str, Source]:
    file = tmp_path / "sources.yaml"
    file.write_text(text)
    return load(file, {"ONE": "1"}, KINDS)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationRefused) as caught:
        sources(tmp_path, text)
    return [problem.removeprefix(f"{tmp_path}/sources.yaml:") for problem in caught.value.problems]


STREAM = """\
version: 1
sources:
  main:
    kind: encharge
    kinesis: {stream: events, region: eu-west-1}
  second:
    kind: encharge
    secrets: [ONE]
    kinesis:
      stream_arn: arn:aws:kinesis:us-east-1:123456789012:stream/their-events
      endpoint_url: http://127.0.0.1:4567
      start: latest
"""


def test_a_source_of_a_stream_needs_no_secret(tmp_path: Path) -> None:
    """Nobody can post to it then; an ARN says name and region."""
    arn = "arn:aws:kinesis:us-east-1:123456789012:stream/their-events"

    found = sources(tmp_path, STREAM)

    assert found["main"].kinesis == Stream("events", "eu-west-1")
    assert found["main"].secrets == ()
    with pytest.raises(Refusal):
        found["main"].verify(lambda _: "", lambda _: "")
    assert found["second"].kinesis == Stream("their-events", "us-east-1", arn, "http://127.0.0.1:4567", "latest")


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("{}", "6: sources.main.kinesis: Name one stream, by stream or by stream_arn."),
        ("{stream: a, stream_arn: b}", "6: sources.main.kinesis.stream_arn: Not a stream's ARN."),
        ("{stream: a}", "6: sources.main.kinesis.region: Missing data for required field."),
        ("{stream: a b, region: x}", "6: sources.main.kinesis.stream: Not a stream's name."),
        ("{stream: a, region: x, start: now}", "6: sources.main.kinesis.start: Must be trim_horizon or latest."),
        ("{stream: a, region: x, endpoint_url: x}", "6: sources.main.kinesis.endpoint_url: Not a URL."),
        ("{stream: a, region: x, key: AKIA}", "6: sources.main.kinesis.key: Unknown field."),
        ("events", "6: sources.main.kinesis: Invalid input type."),
        (
            "{stream_arn: 'arn:aws:kinesis:us-east-1:123456789012:stream/a', region: x}",
            "6: sources.main.kinesis.region: The ARN says which region.",
        ),
    ],
)
def test_a_wrong_stream(tmp_path: Path, block: str, problem: str) -> None:
    """Each with its line and key."""
    text = f"version: 1\nsources:\n  main:\n    kind: encharge\n    secrets: [ONE]\n    kinesis: {block}\n"

    assert problem in problems(tmp_path, text)


@pytest.mark.parametrize(
    ("kind", "known"), [("segment", "write_keys: {a: ONE}"), ("segment_webhook", "secrets: [ONE]")]
)
def test_no_stream_for_what_speaks_http_only(tmp_path: Path, kind: str, known: str) -> None:
    """Write keys and signatures do not come along with records."""
    text = f"version: 1\nsources:\n  main:\n    kind: {kind}\n    {known}\n    kinesis: {{stream: a, region: x}}\n"

    assert problems(tmp_path, text) == ["6: sources.main.kinesis: Unknown field."]


def test_which_sources_a_process_reads(tmp_path: Path) -> None:
    """Those of the names that it is given, or all that have a stream; it needs no place for a spool."""
    file = tmp_path / "sources.yaml"
    file.write_text(STREAM + "  web: {kind: encharge, secrets: [ONE]}\n")
    environ = {"SOURCES_FILE": str(file), "ONE": "1", "SPOOL_FOLDER": "/dev/null/nowhere"}

    assert [source.name for source in process.sources(environ)[1]] == ["main", "second"]
    assert [source.name for source in process.sources(environ, ["second"])[1]] == ["second"]
    with pytest.raises(ConfigurationRefused, match="no source with a kinesis block: web; there are: main, second"):
        process.sources(environ, ["web", "main"])
