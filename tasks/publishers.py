"""Who publishes tasks: names, lists of their own, quotas; out of publishers.yaml."""

import dataclasses
from collections.abc import Mapping
from typing import Final

from config.celery_settings import QUEUE

#: Who publishes without saying who it is.
NAMELESS: Final = "published"


@dataclasses.dataclass(frozen=True)
class Publisher:
    """One of them."""

    name: str  #: the source of its events
    prefix: str = ""  #: what its Redis user may write begins so; "" = it shares the list of all others
    per_second: float | None = None  #: events above it wait; None = no quota
    burst: int = 1  #: events that may come at once after a pause


@dataclasses.dataclass(frozen=True)
class Publishers:
    """Those that the file names; others may publish too, without quota and list."""

    known: Mapping[str, Publisher] = dataclasses.field(default_factory=dict)

    def lists(self) -> dict[str, str | None]:
        """The lists that are read → whose they are; None = of everybody, who say themselves who they are."""
        own = {f"{each.prefix}{QUEUE}": each.name for each in self.known.values() if each.prefix}
        return {QUEUE: None, **own}
