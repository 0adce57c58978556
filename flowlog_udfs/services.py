"""Who answers, judged by the two ports alone: the weakest evidence, for connections whose flags nobody saw.

In: columns of both ports and the protocol, and a list of services. Out: for each row which side is the responder and by which rule.

    well-known-port  exactly one port is a service's: first by the list, then, where it does not decide, by being below 1024, the ports that
                     only a privileged program may open (RFC 6335, section 6: System Ports). Of two listed ports the one below 1024 wins.
    ephemeral-port   exactly one port is of those that systems hand to clients: 32768-60999 on Linux (ip_local_port_range; AWS says up to
                     61000), 49152-65535 on Windows and by RFC 6335. NAT gateways, load balancers and Lambda use all of 1024-65535 (AWS,
                     "Custom network ACLs": ephemeral ports), so a port of theirs from 1024 on is never evidence of a server.
    port-order       the lower port, a guess.
    none             equal ports, or a protocol without ports.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowlog_udfs.documents import read_toml
from flowlog_udfs.errors import UsageError

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable
else:
    from importlib.abc import Traversable

PORT_BASES = ("none", "well-known-port", "ephemeral-port", "port-order")
NO_BASIS, WELL_KNOWN_PORT, EPHEMERAL_PORT, PORT_ORDER = range(len(PORT_BASES))
SIDE_A, SIDE_B, NO_SIDE = 0, 1, -1

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
"""The protocols with ports in flow logs, by IANA's keyword and number."""

SYSTEM_PORTS_BELOW = 1024
EPHEMERAL_FROM = 32_768
"""The lowest port that Linux or Windows hands to a client; NAT gateways, load balancers and Lambda begin at `SYSTEM_PORTS_BELOW`."""

Numbers = npt.NDArray[np.integer]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Service:
    """A port on which servers listen, with the protocol's number."""

    port: int
    protocol: int
    name: str
    meaning: str = ""


def default_services() -> tuple[Service, ...]:
    """The list that comes with flowlog: `conf/services.toml` of a checkout, `services.toml` inside an installed package or zip."""
    packaged = files("flowlog_udfs") / "services.toml"
    return load_services(packaged if packaged.is_file() else Path(__file__).parents[1] / "conf" / "services.toml")


def load_services(path: Path | Traversable) -> tuple[Service, ...]:
    """Read a list of services, tables `[[service]]` with port, protocol, name and meaning; raises `UsageError` naming a wrong entry."""
    tables = read_toml(path)
    if set(tables) - {"service"} or not isinstance(tables.get("service", []), list):
        raise UsageError(f"{path}: must hold [[service]] tables only; found {', '.join(sorted(tables))}")
    services: dict[tuple[int, int], Service] = {}
    for place, table in enumerate(tables.get("service", []), start=1):
        service = _service(table, f"{path}: service {place}")
        if services.setdefault((service.protocol, service.port), service) is not service:
            raise UsageError(f"{path}: service {place}: {table['protocol']} port {service.port} is listed twice; keep one")
    return tuple(services[key] for key in sorted(services))


def _service(table: object, where: str) -> Service:
    if not isinstance(table, dict):
        raise UsageError(f"{where} = {table!r}: must be a table; write [[service]]")
    for key in sorted(set(table) - {"port", "protocol", "name", "meaning"}):
        raise UsageError(f"{where}: unknown key {key!r}; known are port, protocol, name, meaning")
    port, protocol, name, meaning = (table.get(key, "") for key in ("port", "protocol", "name", "meaning"))
    if type(port) is not int or not 1 <= port <= 65_535:
        raise UsageError(f"{where}: port = {port!r}: must be a whole number from 1 to 65535")
    if not isinstance(protocol, str) or protocol not in PROTOCOLS:
        raise UsageError(f"{where}: protocol = {protocol!r}: must be one of {', '.join(PROTOCOLS)}")
    if not isinstance(name, str) or not name or not isinstance(meaning, str):
        raise UsageError(f"{where}: name = {name!r}, meaning = {meaning!r}: must be text, the name not empty")
    return Service(port, PROTOCOLS[protocol], name, meaning)


class PortVerdict(NamedTuple):
    """For each row the rule that decided, a place in `PORT_BASES`, and the responder: 0 side a, 1 side b, -1 neither."""

    basis: npt.NDArray[np.int8]
    responder: npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class PortRules:
    """The rules, ready for columns: which ports are listed, for each protocol of `PROTOCOLS` in order."""

    _listed: npt.NDArray[np.bool_]

    @classmethod
    def build(cls, services: Iterable[Service]) -> PortRules:
        """The rules with a list of services."""
        listed = np.zeros((len(PROTOCOLS) + 1, 1 << 16), bool)
        row = {number: place for place, number in enumerate(PROTOCOLS.values())}
        for service in services:
            listed[row[service.protocol], service.port] = True
        return cls(listed)

    def judge(
        self, port_a: Numbers, port_b: Numbers, protocol: Numbers, wide_a: Flags | None = None, wide_b: Flags | None = None
    ) -> PortVerdict:
        """The strongest of the three rules that decides each row.

        `wide_a`, `wide_b` say where that side is a NAT gateway, load balancer or Lambda. Evidence that stands between these rules (fan-in
        is stronger than port-order) is the caller's to weigh.
        """
        row = _protocol_rows(protocol)
        system_a, system_b = _is_system(port_a), _is_system(port_b)
        listed_a, listed_b = self._listed[row, port_a], self._listed[row, port_b]
        ephemeral_a, ephemeral_b = _is_ephemeral(port_a, wide_a), _is_ephemeral(port_b, wide_b)
        # Each test says whether side a has the property, and side b; it decides where exactly one has.
        tests = (
            (PORT_ORDER, port_a < port_b, port_b < port_a),
            (EPHEMERAL_PORT, ephemeral_b, ephemeral_a),
            # Where both are listed, and where neither is, the port below 1024.
            (WELL_KNOWN_PORT, system_a & (listed_a == listed_b), system_b & (listed_a == listed_b)),
            (WELL_KNOWN_PORT, listed_a, listed_b),
        )
        basis = np.zeros(len(port_a), np.int8)
        responder = np.full(len(port_a), NO_SIDE, np.int8)
        # Of a format without protocol the ports still tell, but for the list, which is by protocol.
        possible = ((row < len(PROTOCOLS)) | (protocol < 0)) & (port_a != port_b)
        for rule, on_a, on_b in tests:
            decides = possible & (on_a != on_b)
            basis[decides] = rule
            responder[decides] = np.where(on_a[decides], SIDE_A, SIDE_B)
        return PortVerdict(basis, responder)


def _protocol_rows(protocol: Numbers) -> npt.NDArray[np.int64]:
    """The row of `PortRules` for each protocol; the last, empty one for protocols without ports."""
    rows = np.full(256, len(PROTOCOLS), np.int64)
    rows[list(PROTOCOLS.values())] = np.arange(len(PROTOCOLS))
    return np.where(protocol < 0, len(PROTOCOLS), rows[protocol])


def _is_system(port: Numbers) -> Flags:
    # Nothing listens on port 0.
    return (port > 0) & (port < SYSTEM_PORTS_BELOW)


def _is_ephemeral(port: Numbers, wide: Flags | None) -> Flags:
    return port >= (EPHEMERAL_FROM if wide is None else np.where(wide, SYSTEM_PORTS_BELOW, EPHEMERAL_FROM))
