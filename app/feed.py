"""A feed: a file of events, as it is or zipped, read in pieces and never held whole.

ActivatePro's event feeds (https://activatepro.spotler.help, Data Feeds) are `event_history_YYYYMMDDHHMMSS.json`, or
that with `.zip` behind it and one file of the same name in it.
"""

import contextlib
import dataclasses
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

#: Bytes read at once.
_CHUNK: Final = 128 * 1024
#: A feed has 35 MB at most; what is far beyond is something else.
MOST_BYTES: Final = 1024 * 1024 * 1024
#: Unpacked to packed. Rows that hardly differ come to a hundred; what is beyond was made to be unpacked.
MOST_RATIO: Final = 300
#: Names of ActivatePro's other feeds → what is in them.
_OTHER_FEEDS: Final = {"order_history": "orders", "product_feed": "products"}


class NoFeed(Exception):
    """A file that is no feed of events, or cannot be read; says why."""


@dataclasses.dataclass(frozen=True)
class Feed:
    """A file that was read once. The hash is of what is in it, packed or not."""

    path: Path
    sha256: str
    size: int  #: in bytes, unpacked

    def chunks(self) -> Iterator[bytes]:
        """What the hash is of. Raises NoFeed: also when the file has changed since."""
        hash_ = sha256()
        for chunk in _chunks(self.path, self.size):
            hash_.update(chunk)
            yield chunk
        if hash_.hexdigest() != self.sha256:
            raise NoFeed("it has changed while it was read")


def measured(path: Path) -> Feed:
    """Read a file through. Raises NoFeed."""
    what = next((what for name, what in _OTHER_FEEDS.items() if path.name.startswith(name)), None)
    if what is not None:
        raise NoFeed(f"a feed of {what}, by its name: another format; only events are read")
    hash_, size = sha256(), 0
    for chunk in _chunks(path, MOST_BYTES + 1):
        hash_.update(chunk)
        size += len(chunk)
    if size > MOST_BYTES:
        raise NoFeed(f"larger than {MOST_BYTES} bytes")
    return Feed(path, hash_.hexdigest(), size)


def _chunks(path: Path, most: int) -> Iterator[bytes]:
    """The first `most` bytes, unpacked."""
    try:
        with path.open("rb") as file, _unpacked(file) as stream:
            while most > 0 and (chunk := stream.read(min(_CHUNK, most))):
                most -= len(chunk)
                yield chunk
    except RuntimeError:  # zipfile's word for it; NotImplementedError is one
        raise NoFeed("it is encrypted, or packed in a way that is not read here") from None
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        # ValueError: a damaged archive's names and places can be anything.
        raise NoFeed(f"it cannot be read: {type(error).__name__}") from None


@contextlib.contextmanager
def _unpacked(file: IO[bytes]) -> Iterator[IO[bytes]]:
    if not zipfile.is_zipfile(file):
        file.seek(0)
        yield file
        return
    with zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise NoFeed(f"a zipped feed is one file; there are {len(members)} in it")
        (member,) = members
        if member.file_size > MOST_BYTES or member.file_size > MOST_RATIO * max(member.compress_size, 1024):
            raise NoFeed("it unpacks to far more than a feed has")
        with archive.open(member) as stream:
            yield stream
