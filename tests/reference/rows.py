"""A record and what the stages find out about it; the ends of a packet."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from .world import Record, order_of

SENDER, RECEIVER, UNKNOWN_SIDE, TRANSIT = "sender", "receiver", "unknown", "transit"


class End(NamedTuple):
    """A packet-level address and port; port None where the format has none."""

    address: str | None
    port: int | None

    @property
    def order(self) -> tuple[int, int]:
        """By address, then port."""
        return order_of(self.address), -1 if self.port is None else self.port


NOWHERE = End(None, None)
Key = tuple[str, End, End, int | None]


@dataclass(eq=False)
class Row:
    """One record and all that the stages find out about it."""

    record: Record
    number: int
    observer: str = ""
    network: str = ""
    kind: str | None = None  # of the interface: a value of interface-type, load_balancer, or None
    source: End = NOWHERE
    target: End = NOWHERE
    shown_source: str | None = None
    shown_target: str | None = None
    own: str = "unknown"  # src, dst or unknown
    role: str = UNKNOWN_SIDE
    stands_for: str | None = None  # pod, or the kind of middlebox that forwards this row
    subnet_bucket: str = ""
    connection_bucket: str = ""
    episode: int = 0
    late: bool = False
    owned: frozenset[str] = frozenset()  # the observer's own addresses
    place: dict[str, str | None] = field(default_factory=dict)  # account_id, vpc_id, subnet_id, az_id, region, instance_id

    @property
    def log(self) -> str:
        return str(self.record.get("flow_log_id"))

    @cached_property
    def start(self) -> int:
        return int(first_of(self.record.get("start"), self.record.get("end"), 0))

    @cached_property
    def end(self) -> int:
        return max(self.start, int(first_of(self.record.get("end"), self.record.get("start"), 0)))

    @property
    def bytes(self) -> int:
        return self.record.get("bytes") or 0

    @property
    def packets(self) -> int:
        return self.record.get("packets") or 0

    @property
    def rejected(self) -> bool:
        return self.record.get("action") == "REJECT"

    @property
    def flags(self) -> int | None:
        """TCP flags, None where the format has none or the packets are not TCP's."""
        return self.record.get("tcp_flags") if self.record.get("protocol") in (6, None) else None

    @property
    def has_ends(self) -> bool:
        return self.source.address is not None and self.target.address is not None

    @property
    def direction(self) -> str:
        return {"src": "out", "dst": "in"}.get(self.own, "unknown")

    @property
    def local(self) -> End:
        return self.source if self.own == "src" else self.target

    @property
    def peer(self) -> End:
        return self.target if self.own == "src" else self.source

    @property
    def shown_local(self) -> str | None:
        return self.shown_source if self.own == "src" else self.shown_target

    @property
    def key(self) -> Key:
        low, high = sorted((self.source, self.target), key=lambda end: end.order)
        return self.network, low, high, self.record.get("protocol")

    @property
    def forward(self) -> bool:
        """Whether the lower end sent these packets."""
        return self.source.order <= self.target.order


def first_of(*values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)
