"""What can be wrong with a stream. The text is the name of the error, never a library's message."""


class StreamFailed(Exception):
    """The stream did not answer, or not well; to be tried again."""


class Throttled(StreamFailed):
    """Asked too often, or for too much; by us, or by others that read the same shard."""


class IteratorExpired(StreamFailed):
    """Five minutes went by between two reads; the checkpoint gives a new one."""


class PositionRefused(StreamFailed):
    """No such position in the shard (any more)."""


class StreamGone(StreamFailed):
    """There is no such stream, or shard (any more)."""
