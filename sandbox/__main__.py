"""`python -m sandbox`: the stand-in Encharge as a process of its own."""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Sequence

from sandbox.activity_stream import ActivityStream
from sandbox.server import API_KEY, HOST, PORT, WRITE_KEY, serve


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and serve."""
    parser = ArgumentParser("sandbox", description=__doc__, formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--host", default=HOST, help="address to listen on")
    parser.add_argument("--port", default=PORT, type=int, help="0 = a free one")
    parser.add_argument("--write-key", default=WRITE_KEY, help="key of the Ingest API")
    parser.add_argument("--api-key", default=API_KEY, help="key of the REST API")
    parser.add_argument("--activity-stream", default="", metavar="URL", help="post every change there")
    parser.add_argument("--activity-stream-secret", default="", metavar="SECRET", help="as bearer token")
    given = parser.parse_args(arguments)
    stream = None
    if given.activity_stream:
        stream = ActivityStream(given.activity_stream, given.activity_stream_secret)
    serve(given.host, given.port, write_key=given.write_key, api_key=given.api_key, activity_stream=stream)


if __name__ == "__main__":
    main()
