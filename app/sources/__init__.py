"""The kinds of source that sources.yaml can name: one file for each sender."""

from typing import Final

from app.source import Kind
from app.sources import activatepro, activity_sync, encharge, segment
from config import personal

KINDS: Final[dict[str, Kind]] = {
    "encharge": Kind(encharge.unwrap, personal=personal.KINDS["encharge"]),
    "segment": Kind(write_keys=True, personal=personal.KINDS["segment"]),
    "segment_webhook": Kind(segment.unwrap_webhook, signed=True, personal=personal.KINDS["segment_webhook"]),
    "segment_stream": Kind(segment.unwrap_webhook, several=True, personal=personal.KINDS["segment_stream"]),
    "activity_sync": Kind(activity_sync.unwrap, several=True, personal=personal.KINDS["activity_sync"]),
    "activatepro": Kind(activatepro.unwrap, several=True, personal=personal.KINDS["activatepro"]),
}
