"""Stage 6, `scopes`: where both ends of each connection stand, and what its records say of encryption and of refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .connections import EVIDENCE_ONLY, Table
from .nat import _name
from .rows import TRANSIT, Row
from .subnets import _own_addresses, peer_scope, with_service
from .world import Known, is_private

ORDER = ("own-network", "own-public", "aws-service", "aws-tenant", "internet", "public-unclassified")


def scopes(rows: Sequence[Row], connections: Table, known: Known, config: Mapping[str, Any], formats: Mapping[str, Sequence[str]]) -> None:
    """Fill in `initiator_scope`, `responder_scope`, `encryption_status`, `reject_reason`.

    An end that an interface owns is the owner's. Of any other the first in `ORDER` counts that some interface on the other side sees; where
    none does, a private address is of the own network, and the rest is unknown.
    """
    own, fields = _own_addresses(rows), with_service(rows, formats)
    for connection in connections:
        mine = [row for row in rows if (row.key, row.episode) == _name(connection) and row.has_ends and row.subnet_bucket != EVIDENCE_ONLY]
        sided = [row for row in mine if row.own != "unknown"]
        for end in ("initiator", "responder"):
            name = (connection[f"{end}_addr"], connection[f"{end}_port"])
            address = str(name[0])
            if any(row.role != TRANSIT and row.local == name for row in sided):
                connection[f"{end}_scope"] = "own-network" if ":" in address or is_private(address) else "own-public"
                continue
            found = {peer_scope(row, own, known, config, row.log in fields) for row in sided if row.peer == name}
            found = {"own-network" if scope == "same-subnet" else scope for scope in found}
            fallback = "own-network" if is_private(address) else "unknown"
            connection[f"{end}_scope"] = next((scope for scope in ORDER if scope in found), fallback)
        for column in ("encryption_status", "reject_reason"):
            connection[column] = min((row.record[column] for row in mine if row.record.get(column) is not None), default=None)
