"""Which stream a source is read from: the block `kinesis:` of its entry in sources.yaml.

Names and ARNs: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_StreamDescriptionSummary.html
"""

import dataclasses
import re
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

_ARN: Final = re.compile(r"arn:aws[a-z-]*:kinesis:([a-z0-9-]+):\d{12}:stream/([A-Za-z0-9_.-]{1,128})")


@dataclasses.dataclass(frozen=True)
class Stream:
    """One data stream, and from where on it is read when it never was."""

    name: str
    region: str
    arn: str | None = None  #: wanted where the stream is another account's
    endpoint_url: str | None = None  #: for a VPC endpoint or a stand-in; None = the region's own
    start: str = "trim_horizon"  #: the oldest record that is kept; or "latest", what comes from the first start on


class StreamSchema(Schema):
    """The block; loads as a Stream. Credentials are none of it: boto3 finds them as it always does."""

    stream = fields.String(validate=validate.Regexp(r"^[A-Za-z0-9_.-]{1,128}$(?!\n)", error="Not a stream's name."))
    stream_arn = fields.String(validate=validate.Regexp(rf"^{_ARN.pattern}$(?!\n)", error="Not a stream's ARN."))
    region = fields.String(validate=validate.Regexp(r"^[a-z0-9-]{1,40}$(?!\n)", error="Not a region."))
    endpoint_url = fields.Url(schemes={"http", "https"}, require_tld=False, error_messages={"invalid": "Not a URL."})
    start = fields.String(
        validate=validate.OneOf(["trim_horizon", "latest"], error="Must be trim_horizon or latest."),
    )

    @validates_schema
    def _one_stream(self, data: dict[str, Any], **_: Any) -> None:
        if ("stream" in data) == ("stream_arn" in data):
            raise ValidationError("Name one stream, by stream or by stream_arn.")
        if "stream" in data and "region" not in data:
            raise ValidationError("Missing data for required field.", "region")
        if "stream_arn" in data and "region" in data:
            raise ValidationError("The ARN says which region.", "region")

    @post_load
    def _stream(self, data: dict[str, Any], **_: Any) -> Stream:
        arn = data.pop("stream_arn", None)
        if arn is not None:
            found = _ARN.fullmatch(arn)
            assert found is not None  # noqa: S101 - it has been validated
            data["region"], data["stream"] = found.groups()
        return Stream(data.pop("stream"), arn=arn, **data)
