"""Every action that a route can name."""

from typing import Final

from tasks.action import Action
from tasks.actions import (
    alias_user,
    archive_user,
    forward_event,
    identify_user,
    tag_user,
    track_event,
    track_page,
    unsubscribe_user,
    untag_user,
    upload_event,
    upsert_object,
)

ACTIONS: Final[dict[str, Action]] = {
    module.ACTION.name: module.ACTION
    for module in (
        alias_user,
        archive_user,
        forward_event,
        identify_user,
        tag_user,
        track_event,
        track_page,
        unsubscribe_user,
        untag_user,
        upload_event,
        upsert_object,
    )
}
