"""What a destination offers that takes several deliveries of one subject in one request."""

from collections.abc import Hashable, Sequence
from typing import Protocol, runtime_checkable

from tasks.action import Request


@runtime_checkable
class Groups(Protocol):
    """Optional, beside `send` and `shown`: whoever has several requests in hand may ask to have them made into one.

    Requests of one key, in their order and at most `most` of them, may be given to `merged`. When the destination
    refuses the merged request for good, each must be sent alone: only one of them may be to blame.
    """

    @property
    def most(self) -> int:
        """How many requests one may be made of."""
        ...

    def group_key(self, request: Request) -> Hashable | None:
        """What requests have in common that may go together; None = it goes alone."""
        ...

    def merged(self, requests: Sequence[Request]) -> Request:
        """One request that does what these do, in their order; they are of one key."""
        ...
