"""Every table of a warehouse with the meaning of each of its columns: what documentation and DDL statements are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from flowlog_udfs import meanings
from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.coverage import COVERAGE_TABLE
from flowlog_udfs.errors import UsageError
from flowlog_udfs.fields import FIELDS, TGW_FIELDS, Field
from flowlog_udfs.ingest import OBJECTS, RECORDS_TABLE, RECORDS_TGW_TABLE, REJECTS
from flowlog_udfs.initiation import LEGS_TABLE
from flowlog_udfs.ledger import RUNS_TABLE, SIGNOFFS_TABLE
from flowlog_udfs.ocsf.schema import MEANINGS as OCSF_MEANINGS
from flowlog_udfs.ocsf.schema import OCSF_TABLE
from flowlog_udfs.policy.assessments import ASSESSMENTS_TABLE
from flowlog_udfs.policy.findings import FINDINGS_TABLE
from flowlog_udfs.policy.trends import EXTERNAL_PEERS_TABLE
from flowlog_udfs.presence import INTERFACES_TABLE
from flowlog_udfs.storage import Storage
from flowlog_udfs.subnets import RECONCILIATION_TABLE, SUBNET_BYTES_TABLE
from flowlog_udfs.tables import Table, Warehouse, logical_schema
from flowlog_udfs.tallies import TALLIES_TABLE
from flowlog_udfs.translation import NAT_MAPPINGS_TABLE


@dataclass(frozen=True)
class Entry:
    """A table: what one row is, and what each column means. All tables are partitioned by `day`, a date."""

    table: Table
    row: str
    columns: Mapping[str, str]

    @property
    def schema(self) -> pa.Schema:
        """The columns as readers see them, the partition column `day` apart."""
        return logical_schema(self.table.schema)


def _by_column(fields: tuple[Field, ...]) -> dict[str, str]:
    return {field.column: field.meaning for field in fields} | meanings.ADDED_TO_RECORDS


TABLES = (
    Entry(OBJECTS, "flow log object that the day's run met", meanings.OBJECTS),
    Entry(RECORDS_TABLE, "VPC flow log record; a field that its format lacks, or that is `-`, is NULL", _by_column(FIELDS)),
    Entry(RECORDS_TGW_TABLE, "Transit Gateway flow log record", _by_column(TGW_FIELDS)),
    Entry(REJECTS, "line that is not a record", meanings.REJECTS),
    Entry(CONNECTIONS_TABLE, "connection: a five-tuple, and each later use of it", meanings.CONNECTIONS),
    Entry(NAT_MAPPINGS_TABLE, "inside leg of a translator with the outside leg that it became", meanings.NAT_MAPPINGS),
    Entry(SUBNET_BYTES_TABLE, "hour, subnet, direction, side that initiated, peer scope and action", meanings.SUBNET_BYTES),
    Entry(RECONCILIATION_TABLE, "bucket of the account of all that was read", meanings.RECONCILIATION),
    Entry(COVERAGE_TABLE, "flow log and hour, hours with nothing included", meanings.COVERAGE),
    Entry(INTERFACES_TABLE, "interface and flow log that showed it", meanings.INTERFACES),
    Entry(FINDINGS_TABLE, "finding of a rule", meanings.FINDINGS),
    Entry(ASSESSMENTS_TABLE, "rule and VPC", meanings.ASSESSMENTS),
    Entry(EXTERNAL_PEERS_TABLE, "peer on the internet of a sensitive segment", meanings.EXTERNAL_PEERS),
    Entry(RUNS_TABLE, "version of a day's report", meanings.RUNS),
    Entry(SIGNOFFS_TABLE, "decision of a reviewer on a version; rows are only ever added", meanings.SIGNOFFS),
    Entry(OCSF_TABLE, "connection as an OCSF event, where it was exported (see docs/ocsf.md)", OCSF_MEANINGS),
    Entry(LEGS_TABLE, "translator's view of a connection, of which pairs are made", meanings.NAT_LEGS),
    Entry(TALLIES_TABLE, "sum of records on their way into totals and account", meanings.TALLIES),
)
"""In the order in which a day fills them; the last two are made only for the steps after them."""


def refuse_taken(warehouse: Warehouse, storage: Storage, prefix: str, option: str) -> None:
    """Raise `UsageError` for a place to write to, given by `option`, that is a table's, that of reports or the warehouse itself."""
    place, root = storage.url(prefix), warehouse.url
    if place != root and not place.startswith(f"{root}/"):
        return
    name = place[len(root) + 1 :].partition("/")[0]
    if not name or name[0] in "._" or name in {"reports", *(entry.table.name for entry in TABLES)}:
        raise UsageError(f"{option} {place}: lies among the warehouse's tables and reports; give another place")


def sql_type(kind: pa.DataType) -> str:
    """An Arrow type in the words of Spark SQL, which Athena and Glue share.

    >>> sql_type(pa.list_(pa.struct([("start", pa.timestamp("us", "UTC"))])))
    'ARRAY<STRUCT<start: TIMESTAMP>>'
    """
    if pa.types.is_map(kind):
        return f"MAP<{sql_type(kind.key_type)}, {sql_type(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"ARRAY<{sql_type(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"STRUCT<{', '.join(f'{field.name}: {sql_type(field.type)}' for field in kind)}>"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP"
    return _ATOMS[kind]


_ATOMS = {
    pa.string(): "STRING",
    pa.int8(): "TINYINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
}
