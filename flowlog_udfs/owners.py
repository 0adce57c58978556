"""Whose an address of a network is: the interfaces that claim it as their own, be they logged or known from an inventory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flowlog_udfs.interfaces import Interface

Owners = Mapping[tuple[str, str], Interface | None]
"""By network and address the one interface that claims it; None where several do."""


def owners(interfaces: Iterable[Interface]) -> Owners:
    """The owners among interfaces, by the addresses that are their own."""
    found: dict[tuple[str, str], Interface | None] = {}
    for one in interfaces:
        for address in one.own:
            if found.setdefault((one.network, address), one) is not one:
                found[one.network, address] = None
    return found
