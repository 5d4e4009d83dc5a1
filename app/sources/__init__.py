"""The kinds of source that sources.yaml can name: one file for each sender."""

from typing import Final

from app.source import Kind
from app.sources import activatepro, activity_sync, encharge, segment

KINDS: Final[dict[str, Kind]] = {
    "encharge": Kind(encharge.unwrap),
    "segment": Kind(write_keys=True),
    "segment_webhook": Kind(segment.unwrap_webhook, signed=True),
    "activity_sync": Kind(activity_sync.unwrap, personal=activity_sync.PERSONAL),
    "activatepro": Kind(activatepro.unwrap, personal=activatepro.PERSONAL),
    "segment_stream": Kind(segment.unwrap_webhook, several=True),
}
