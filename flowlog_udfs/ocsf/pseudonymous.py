"""Connections and NAT mappings under pseudonyms. In: columns of either table. Out: the same columns, their names and ids replaced."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from flowlog_udfs.columns import codes, texts
from flowlog_udfs.connections import OWNER_COLUMNS
from flowlog_udfs.policy.segments import ENDS
from flowlog_udfs.pseudonyms import Pseudonyms

NAMES: dict[str, Callable[[Pseudonyms, str], str]] = {
    **{f"{end}_{name}": Pseudonyms.resource for end in ENDS for name in OWNER_COLUMNS},
    **{f"{end}_account_id": Pseudonyms.account for end in ENDS},
    **dict.fromkeys(("initiator_addr", "responder_addr", "nat_addr", "inside_addr", "remote_addr"), Pseudonyms.address),
    **dict.fromkeys(("nat_id", "network", "interfaces"), Pseudonyms.resource),
}
"""Columns that name somebody, and whose pseudonyms they get."""


def pseudonymous(rows: pa.Table, pseudonyms: Pseudonyms) -> pa.Table:
    """The rows with pseudonyms in the columns `NAMES`, and with another `connection_id`, which is a hash of the ends."""
    for place, name in enumerate(rows.column_names):
        column = rows.column(name)
        if name == "connection_id":
            made = pa.array([None if one is None else pseudonyms.number(one) for one in column.to_pylist()], column.type)
        elif name not in NAMES:
            continue
        elif pa.types.is_list(column.type):
            held = column.combine_chunks()
            words = _replaced(held.values, NAMES[name], pseudonyms).cast(pa.string())
            made = pa.ListArray.from_arrays(held.offsets, words, mask=held.is_null())
        else:
            made = _replaced(column, NAMES[name], pseudonyms).cast(column.type)
        rows = rows.set_column(place, rows.schema.field(name), made)
    return rows


def _replaced(column: pa.ChunkedArray | pa.Array, pseudonym: Callable[[Pseudonyms, str], str], pseudonyms: Pseudonyms) -> pa.Array:
    code, words = codes(column)
    return texts(code, pa.array([pseudonym(pseudonyms, word) for word in words.to_pylist()], pa.string()))
