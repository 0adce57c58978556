"""Who was behind a translated address: the answer to an abuse report that names a public address, a port and a time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from flowlog_udfs.errors import UsageError
from flowlog_udfs.inventory import Interface, Inventory, NatGateway
from flowlog_udfs.tables import Warehouse
from flowlog_udfs.translation import NAT_MAPPINGS_TABLE

CLOCK_TOLERANCE = timedelta(minutes=2)
"""By how much the reporter's clock and the windows of flow logs may be apart."""


def behind_nat(
    spark: SparkSession, warehouse: Warehouse, address: str, port: int, time: datetime, inventory: Inventory | None = None
) -> DataFrame:
    """Rows of `nat_mappings` that held an address and a port at a time, the surest first.

    Flow logs show a NAT gateway's private address; an inventory finds it by the public one that a report names. Rows whose port is NULL
    are one of more than eight candidates. Raises `UsageError` for a time without a zone: reports and flow logs must mean the same second.
    """
    if time.tzinfo is None:
        raise UsageError(f"{time}: a report's time needs its zone, like 2026-03-10T14:05:00+00:00")
    moments = sorted({(time + shift).astimezone(timezone.utc).date() for shift in (-CLOCK_TOLERANCE, CLOCK_TOLERANCE)})
    rows = warehouse.read(spark, NAT_MAPPINGS_TABLE, moments[0])
    for day in moments[1:]:
        rows = rows.unionByName(warehouse.read(spark, NAT_MAPPINGS_TABLE, day))
    first, last = F.lit(time - CLOCK_TOLERANCE), F.lit(time + CLOCK_TOLERANCE)
    held = (
        F.col("nat_addr").isin(sorted(_translated_to(address, inventory))) & (F.col("first_start") <= last) & (F.col("last_end") >= first)
    )
    by_port = (F.col("nat_port") == port) | (F.col("nat_port").isNull() & (F.col("candidates") > 0))
    return rows.where(held & by_port).orderBy(F.desc("confidence"), "first_start", "inside_addr", "inside_port")


def _translated_to(address: str, inventory: Inventory | None) -> set[str]:
    """The address and, of the gateways and interfaces that hold it, the private ones that flow logs show."""
    found = {address}
    if inventory:
        holders: list[NatGateway | Interface] = [*inventory.nat_gateways, *inventory.interfaces]
        for one in holders:
            if address in one.public_addresses:
                found.update(one.addresses)
    return found
