"""The kinds of source that sources.yaml can name: one file for each sender."""

from typing import Final

from app.source import Unwrap
from app.sources import encharge

KINDS: Final[dict[str, Unwrap]] = {"encharge": encharge.unwrap}
