"""The IP protocols that attribution tells apart, by IANA's numbers."""

from __future__ import annotations

import numpy as np

from flowlog_udfs.columns import Flags, Ints

ICMP, TCP, UDP, GRE, ESP, ICMPV6 = 1, 6, 17, 47, 50, 58
UNNAMED = -1
"""A record whose format has no protocol: its flags, if it has any, are TCP's."""

TUNNEL_PORTS = (4789, 6081)
"""VXLAN (RFC 7348) and Geneve (RFC 8926): both ends send to this port, and either may have been first."""


def has_flags(protocol: Ints) -> Flags:
    """Whether TCP's flags are of meaning."""
    return (protocol == TCP) | (protocol == UNNAMED)


def is_icmp(protocol: Ints) -> Flags:
    """ICMP of either family, which has no ports."""
    return (protocol == ICMP) | (protocol == ICMPV6)


def is_tunnel(protocol: Ints, lo_port: Ints, hi_port: Ints) -> Flags:
    """Encapsulated traffic, in which the outer ends initiate nothing: VXLAN, Geneve, ESP (RFC 4303), GRE (RFC 2784)."""
    ported = np.isin(lo_port, TUNNEL_PORTS) | np.isin(hi_port, TUNNEL_PORTS)
    return ((protocol == UDP) & ported) | (protocol == ESP) | (protocol == GRE)
