"""The kinds of source that sources.yaml can name: one file for each sender."""

from typing import Final

from app.source import Kind
from app.sources import activatepro, activity_sync, encharge, segment

KINDS: Final[dict[str, Kind]] = {
    "encharge": Kind(encharge.unwrap),
    "segment": Kind(write_keys=True),
    "segment_webhook": Kind(segment.unwrap_webhook, signed=True),
    "segment_stream": Kind(segment.unwrap_webhook, several=True),
    "activity_sync": Kind(activity_sync.unwrap, several=True, personal=activity_sync.PERSONAL),
    "activatepro": Kind(activatepro.unwrap, several=True, personal=activatepro.PERSONAL),
}
