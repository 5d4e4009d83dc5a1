"""Files of feeds: plain, zipped, too large, of another kind."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app.feed import MOST_BYTES, NoFeed, measured

CONTENT = b'[\n{"id": "1", "event": "E"}\n]\n' * 10_000
NAME = "event_history_20220111000000.json"


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_plain_and_zipped_are_the_same_feed(tmp_path: Path) -> None:
    """What is in it counts, not how it is packed or called."""
    plain = tmp_path / NAME
    plain.write_bytes(CONTENT)
    packed = [
        zipped(tmp_path / f"{NAME}.zip", {NAME: CONTENT}),
        zipped(tmp_path / "any.json", {f"folder/{NAME}": CONTENT, "folder/": b""}),
        zipped(tmp_path / "stored", {NAME: CONTENT}, zipfile.ZIP_STORED),
    ]
    feeds = [measured(path) for path in (plain, *packed)]

    assert {feed.sha256 for feed in feeds} == {feeds[0].sha256}
    assert {feed.size for feed in feeds} == {len(CONTENT)}
    assert [b"".join(feed.chunks()) for feed in feeds] == [CONTENT] * 4


def bomb(path: Path) -> Path:
    return zipped(path, {NAME: b" " * 20_000_000})


def liar(path: Path) -> Path:
    """Claims to unpack to more than is allowed."""
    zipped(path, {NAME: CONTENT}, zipfile.ZIP_STORED)
    size = len(CONTENT).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (MOST_BYTES + 1).to_bytes(4, "little")))
    return path


def damaged(*places: int, method: int = zipfile.ZIP_DEFLATED) -> Callable[[Path], Path]:
    """Bytes of the archive are others than they were: in its directory, or, beyond 60, from its beginning."""

    def make(path: Path) -> Path:
        data = bytearray(zipped(path, {NAME: CONTENT}, method).read_bytes())
        for place in places:
            data[place if place > 60 else data.rindex(b"PK\x01\x02") + place] ^= 0xFF
        path.write_bytes(data)
        return path

    return make


def encrypted(path: Path) -> Path:
    data = bytearray(zipped(path, {NAME: CONTENT}).read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


def cut(path: Path) -> Path:
    data = zipped(path, {NAME: CONTENT}, zipfile.ZIP_STORED).read_bytes()
    path.write_bytes(data[:100] + data[200:])
    return path


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (bomb, "it unpacks to far more than a feed has"),
        (liar, "it unpacks to far more than a feed has"),
        (encrypted, "it is encrypted, or packed in a way that is not read here"),
        (damaged(6), "it is encrypted, or packed in a way that is not read here"),
        (damaged(9, 46), "it cannot be read: UnicodeDecodeError"),
        (damaged(100, method=zipfile.ZIP_LZMA), "it cannot be read: LZMAError"),
        (cut, "it cannot be read: OSError"),
        (lambda path: zipped(path, {}), "a zipped feed is one file; there are 0 in it"),
        (lambda path: zipped(path, {"a": b"", "b": b""}), "a zipped feed is one file; there are 2 in it"),
    ],
)
def test_an_archive_that_is_no_feed(tmp_path: Path, make: Callable[[Path], Path], why: str) -> None:
    """Refused with the reason, before much of it was unpacked."""
    with pytest.raises(NoFeed) as caught:
        measured(make(tmp_path / "feed.zip"))
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("order_history_20220111000000.json", "orders"),
        ("order_history_20220111000000.json.zip", "orders"),
        ("product_feed_20220111000000.json.gzip", "products"),
    ],
)
def test_other_feeds_are_refused_by_name(tmp_path: Path, name: str, what: str) -> None:
    """Their rows have another form."""
    (tmp_path / name).write_bytes(CONTENT)
    with pytest.raises(NoFeed, match=f"a feed of {what}"):
        measured(tmp_path / name)


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    """What was appended meanwhile is left to the next run; what was changed is said."""
    path = tmp_path / NAME
    path.write_bytes(CONTENT)
    feed = measured(path)

    path.write_bytes(CONTENT + b"more")
    assert b"".join(feed.chunks()) == CONTENT
    path.write_bytes(CONTENT.replace(b'"1"', b'"2"'))
    with pytest.raises(NoFeed, match="changed"):
        list(feed.chunks())
    path.unlink()
    with pytest.raises(NoFeed, match="FileNotFoundError"):
        list(feed.chunks())


def test_what_only_begins_like_an_archive(tmp_path: Path) -> None:
    """A plain file is read as it is."""
    path = tmp_path / NAME
    path.write_bytes(b"PK\x03\x04" + CONTENT)
    assert b"".join(measured(path).chunks()).endswith(CONTENT)
    assert io.BytesIO(path.read_bytes()).read(2) == b"PK"
