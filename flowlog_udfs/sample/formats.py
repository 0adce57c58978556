"""The log formats that sample flow logs are written in, as tuples of field names from `fields.py`."""

from __future__ import annotations

from flowlog_udfs.fields import BY_NAME, FIELDS

Format = tuple[str, ...]

DEFAULT: Format = tuple(field.name for field in FIELDS if field.version == 2)
"""AWS's default format: the fields of version 2, which have neither flags nor packet-level addresses."""

_ANNOUNCED = (
    "version vpc-id subnet-id instance-id interface-id account-id type srcaddr dstaddr srcport dstport pkt-srcaddr pkt-dstaddr"
    " protocol bytes packets start end action tcp-flags log-status"
)
ANNOUNCEMENT: Format = tuple(_ANNOUNCED.split())
"""The format with which AWS announced tcp-flags and packet-level addresses: all fields up to version 3, in an order of its own."""

ALPHABETICAL: Format = tuple(sorted(field.name for field in FIELDS if field.version <= 5))
"""All fields up to version 5 in alphabetical order, as some infrastructure tools write them."""

RICH: Format = tuple(field.name for field in FIELDS)
"""Every field up to version 11."""


def format_version(names: Format) -> int:
    """What the field `version` shows: the highest version among the selected fields."""
    return max(BY_NAME[name].version for name in names)
