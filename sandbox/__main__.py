"""`python -m sandbox`: the stand-in Encharge as a process of its own.

Its secrets come through the environment: a command line is for every user of the machine to read.
"""

import os
import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Sequence

from sandbox.activity_stream import ActivityStream
from sandbox.server import HOST, PORT, OpenToAll, keys_of, serve
from sandbox.tokens import Tokens

_EPILOG = (
    "Environment: ENCHARGE_WRITE_KEY and ENCHARGE_API_KEY (default: the write key) are the keys that callers must "
    "know, SANDBOX_ACTIVITY_STREAM_SECRET goes with each change as bearer token. ACTIVATEPRO_TOKEN, SEGMENT_WRITE_KEY "
    "and SANDBOX_WEBHOOK_SECRET are those of the other systems; SANDBOX_ACTIVATEPRO_EVENTS=name,name are all events "
    "that ActivatePro is to know."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and serve."""
    parser = ArgumentParser(
        "sandbox", description=__doc__, epilog=_EPILOG, formatter_class=ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--host", default=HOST, help="address to listen on")
    parser.add_argument("--port", default=PORT, type=int, help="0 = a free one")
    parser.add_argument("--activity-stream", default="", metavar="URL", help="post every change there")
    parser.add_argument("--reveal", action="store_true", help="show on the page what people sent, not only how much")
    given = parser.parse_args(arguments)
    stream = None
    if given.activity_stream:
        stream = ActivityStream(given.activity_stream, os.environ.get("SANDBOX_ACTIVITY_STREAM_SECRET", ""))
    try:
        serve(
            given.host,
            given.port,
            keys_of(os.environ),
            activity_stream=stream,
            tokens=Tokens.of(os.environ),
            reveal=given.reveal,
        )
    except OpenToAll as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main()
