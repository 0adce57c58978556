"""The comparison of tables with the truth: on tiny tables made by hand, each thing that is wrong must show, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from tests.benchmarks.accuracy import DEFAULT_FORMAT, WITH_FLAGS, Accuracy, Basis, Share, accuracy

DAY = date(2026, 6, 1)
NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
Row = dict[str, Any]

TEXT, INT, LONG, TIME, FLAG, REAL = pa.string(), pa.int32(), pa.int64(), pa.timestamp("us", "UTC"), pa.bool_(), pa.float64()
ENDS = {"initiator_addr": TEXT, "initiator_port": INT, "responder_addr": TEXT, "responder_port": INT, "protocol": INT, "first_start": TIME}
OCTETS = {f"{sort}bytes_{way}": LONG for sort in ("", "rejected_") for way in ("sent", "received")}
LEG = {f"{end}_{part}": kind for end in ("inside", "nat", "remote") for part, kind in (("addr", TEXT), ("port", INT))}
MAPPED = {"nat_kind": TEXT, **LEG, "protocol": INT, "first_start": TIME, "candidates": LONG}
TOTAL = {"hour": TIME, "subnet_id": TEXT, "direction": TEXT, "action": TEXT, "bytes": LONG, "records": LONG}
JUDGED = {"near_midnight": FLAG, "late_records": LONG}
TABLES = {
    "connections": ENDS
    | OCTETS
    | {"connection_id": LONG, "initiator_vpc_id": TEXT, "responder_vpc_id": TEXT, "basis": TEXT, "confidence": REAL},
    "nat_mappings": MAPPED | {"confidence": REAL},
    "subnet_bytes": TOTAL,
    "reconciliation": {"scope": TEXT, "measure": TEXT, "bucket": TEXT, "value": LONG},
}
TRUTH = {
    "connections": ENDS
    | OCTETS
    | JUDGED
    | {"connection": LONG, "initiator_network": TEXT, "responder_network": TEXT, "state": TEXT}
    | {"syn_logged": FLAG, "syn_ack_logged": FLAG, "ends_logged": FLAG}
    | {f"late_rejected_bytes_{way}": LONG for way in ("sent", "received")},
    "nat": MAPPED | JUDGED | {"connection": LONG, "outside_connection": LONG, "distinguishable": FLAG},
    "subnets": TOTAL | {"bucket": TEXT},
    "totals": {"bucket": TEXT, "bytes": LONG},
}


def connection(number: int) -> tuple[Row, Row]:
    """A connection of 100 bytes out and 1,000 back, as the truth has it and as the table should."""
    start = NOON + timedelta(seconds=number)
    ends = {"initiator_addr": "10.0.1.5", "initiator_port": 40_000 + number, "responder_addr": "10.0.3.7", "responder_port": 5432}
    both = {**ends, "protocol": 6, "first_start": start, **dict.fromkeys(OCTETS, 0), "bytes_sent": 100, "bytes_received": 1_000}
    truth = {"connection": number, "initiator_network": "vpc-1", "responder_network": "vpc-1", "state": "established", "late_records": 0}
    flags = {"near_midnight": False, "syn_logged": True, "syn_ack_logged": True, "ends_logged": True}
    rejects = {"late_rejected_bytes_sent": 0, "late_rejected_bytes_received": 0}
    table = {"connection_id": 500 + number, "initiator_vpc_id": "vpc-1", "responder_vpc_id": "vpc-1", "basis": "syn", "confidence": 1.0}
    return {**truth, **flags, **rejects, **both}, {**table, **both}


def mapping(number: int) -> tuple[Row, Row]:
    """A translation of the connection of that number; its outside leg is the one of the next number."""
    ends = {"inside_addr": "10.0.1.5", "inside_port": 40_000 + number, "nat_addr": "10.0.0.220", "nat_port": 1_000 + number}
    remote = {"remote_addr": "203.0.113.5", "remote_port": 443, "protocol": 6, "first_start": NOON, "candidates": 1}
    both = {"nat_kind": "nat_gateway", **ends, **remote}
    truth = {"connection": number, "outside_connection": number + 1, "near_midnight": False, "late_records": 0, "distinguishable": True}
    return {**truth, **both}, {**both, "confidence": 0.95}


def hour(number: int, octets: int) -> tuple[Row, Row]:
    start = datetime(2026, 6, 1, number, tzinfo=timezone.utc)
    both = {"hour": start, "subnet_id": "subnet-1", "direction": "out", "action": "ACCEPT", "bytes": octets, "records": 1}
    return {**both, "bucket": "counted"}, both


@dataclass
class World:
    """A day of six connections, two of them translated, by the truth and by the tables; right until a test changes it."""

    truth: dict[str, list[Row]] = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make both alike."""
        for name, true_name, pairs in (
            ("connections", "connections", [connection(number) for number in range(6)]),
            ("nat_mappings", "nat", [mapping(number) for number in (0, 2)]),
            ("subnet_bytes", "subnets", [hour(number, 300) for number in (0, 12)]),
        ):
            self.truth[true_name], self.tables[name] = [truth for truth, _ in pairs], [table for _, table in pairs]
        self.truth["totals"] = [{"bucket": "counted", "bytes": 600}, {"bucket": "nat_leg", "bytes": 50}]
        account = {"raw": 650, "counted": 600, "nat_leg": 50}
        self.tables["reconciliation"] = [
            {"scope": scope, "measure": measure, "bucket": bucket, "value": value}
            for scope in ("subnet", "connection")
            for measure in ("bytes", "records")
            for bucket, value in account.items()
        ]

    def compare(self, folder: Path) -> Accuracy:
        """Write both and compare them."""
        for name, columns in TABLES.items():
            if name in self.tables:
                write_day(folder / "tables" / name, self.tables[name], columns)
        for name, columns in TRUTH.items():
            path = folder / "logs" / "truth" / f"day={DAY}" / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(self.truth[name], pa.schema(list(columns.items()))), path)
        return accuracy(folder / "tables", folder / "logs", DAY)


def write_day(folder: Path, rows: list[Row], columns: dict[str, pa.DataType]) -> None:
    """Replace the day in a Delta table; files of what was there before stay in the folder."""
    table = pa.Table.from_pylist(rows, pa.schema(list(columns.items())))
    table = table.append_column("day", pa.array([DAY] * len(rows), pa.date32()))
    write_deltalake(str(folder), table, partition_by=["day"], mode="overwrite")


@pytest.fixture
def world() -> World:
    return World()


def swap_ends(row: Row) -> None:
    for part in ("addr", "port"):
        one, other = f"initiator_{part}", f"responder_{part}"
        row[one], row[other] = row[other], row[one]
    for sort in ("", "rejected_"):
        one, other = f"{sort}bytes_sent", f"{sort}bytes_received"
        row[one], row[other] = row[other], row[one]


def test_what_is_right_is_right_in_every_figure(world: World, tmp_path: Path) -> None:
    found = world.compare(tmp_path)
    assert found.shortcomings(WITH_FLAGS) == found.shortcomings(DEFAULT_FORMAT) == []
    assert found.found == found.found_shown == found.known == found.initiators == found.initiators_by_flags == found.octets == Share(6, 6)
    assert found.nat_pairs == found.nat_pairs_shown == Share(2, 2)
    assert (found.further, found.wrong_pairs, found.octets_off) == (0, 0, {"sent": 0, "received": 0, "rejected": 0})
    assert (found.subnet_hours, found.edge_hours, found.buckets, found.account) == (Share(1, 1), Share(1, 1), Share(650, 650), Share(4, 4))
    assert found.bases == {"syn": Basis(Share(6, 6), 1.0)}
    assert len(str(found).splitlines()) == sum(bool(figure.metadata) for figure in fields(found)) + 1


def test_a_wrong_initiator_shows_and_its_bytes_are_judged_all_the_same(world: World, tmp_path: Path) -> None:
    swap_ends(world.tables["connections"][1])
    found = world.compare(tmp_path)
    assert found.initiators == found.initiators_by_flags == Share(5, 6)
    assert found.bases == {"syn": Basis(Share(5, 6), 1.0)}
    assert found.found == found.octets == Share(6, 6)
    assert [one.split(":")[0] for one in found.shortcomings(WITH_FLAGS)] == ["initiators_by_flags", "initiators"]
    world.tables["connections"][1]["bytes_sent"] += 1
    found = world.compare(tmp_path)
    assert (found.octets, found.octets_off) == (Share(5, 6), {"sent": 0, "received": 1, "rejected": 0})


def test_basis_none_names_nobody(world: World, tmp_path: Path) -> None:
    world.tables["connections"][1] |= {"basis": "none", "confidence": 0.0}
    world.tables["connections"][2] |= {"basis": "port-order", "confidence": 0.55}
    world.tables["connections"][3] |= {"basis": "port-order", "confidence": 0.45}
    swap_ends(world.tables["connections"][3])
    found = world.compare(tmp_path)
    assert found.initiators == Share(4, 6)
    assert found.bases["none"] == Basis(Share(0, 1), 0.0)
    assert found.bases["port-order"] == Basis(Share(1, 2), 0.5)


def test_a_missing_connection_has_no_initiator_that_could_be_right(world: World, tmp_path: Path) -> None:
    del world.tables["connections"][1]
    found = world.compare(tmp_path)
    assert found.found == found.initiators == found.initiators_by_flags == Share(5, 6)
    assert found.octets == found.known == Share(5, 5)
    assert [one.split(":")[0] for one in found.shortcomings(WITH_FLAGS)] == ["found", "initiators_by_flags", "initiators"]


def test_rows_that_are_no_connection_show_those_of_true_ends_apart(world: World, tmp_path: Path) -> None:
    again, foreign = (dict(world.tables["connections"][0]) for _ in range(2))
    again |= {"connection_id": 900, "first_start": NOON + timedelta(seconds=100)}
    foreign |= {"connection_id": 901, "initiator_addr": "10.0.32.10"}
    world.tables["connections"] += [again, foreign]
    found = world.compare(tmp_path)
    assert (found.known, found.further) == (Share(6, 8), 1)
    assert found.found == found.octets == Share(6, 6)
    assert [one.split(":")[0] for one in found.shortcomings(WITH_FLAGS)] == ["known"]


def test_two_connections_are_never_found_in_one_row(world: World, tmp_path: Path) -> None:
    """A five-tuple used twice within minutes: each use has the row that is nearest, and one row is one of them."""
    world.truth["connections"][1] |= {"initiator_port": 40_000, "first_start": NOON + timedelta(seconds=200)}
    world.tables["connections"][1] |= {"initiator_port": 40_000, "first_start": NOON + timedelta(seconds=120)}
    assert world.compare(tmp_path).found == Share(6, 6)
    del world.tables["connections"][0]
    assert world.compare(tmp_path).found == Share(5, 6)


def test_equal_addresses_in_two_vpcs_are_two_connections(world: World, tmp_path: Path) -> None:
    """The other VPC's row begins at the very second of this one's, which matters less than whose it is."""
    for rows, name in ((world.truth["connections"], "network"), (world.tables["connections"], "vpc_id")):
        rows[1] |= {f"{end}_{name}": "vpc-2" for end in ("initiator", "responder")}
        rows[1] |= {"initiator_port": 40_000, "bytes_sent": 7}
    first, second = world.tables["connections"][:2]
    first["first_start"], second["first_start"] = second["first_start"], first["first_start"]
    found = world.compare(tmp_path)
    assert found.found == found.octets == Share(6, 6)
    # Both as one row, of either VPC: one is missing.
    del world.tables["connections"][0]
    assert world.compare(tmp_path).found == Share(5, 6)


@pytest.mark.parametrize("way", ["sent", "received"])
def test_a_byte_off_shows(way: str, world: World, tmp_path: Path) -> None:
    world.tables["connections"][4][f"bytes_{way}"] += 1
    found = world.compare(tmp_path)
    assert (found.octets, found.octets_off[way]) == (Share(5, 6), 1)
    assert [one.split(":")[0] for one in found.shortcomings(WITH_FLAGS)] == ["octets"]


def test_rejects_after_the_close_are_among_the_rejected(world: World, tmp_path: Path) -> None:
    world.truth["connections"][4] |= {"rejected_bytes_received": 60, "late_rejected_bytes_received": 40}
    world.tables["connections"][4]["rejected_bytes_received"] = 100
    assert world.compare(tmp_path).octets == Share(6, 6)
    world.tables["connections"][4]["rejected_bytes_received"] = 60
    found = world.compare(tmp_path)
    assert (found.octets, found.octets_off) == (Share(5, 6), {"sent": 0, "received": 0, "rejected": 1})


def test_what_cannot_be_judged_is_left_out_and_midnight_judged_apart(world: World, tmp_path: Path) -> None:
    truth, tables = world.truth["connections"], world.tables["connections"]
    truth[0]["late_records"] = 1
    truth[1]["near_midnight"] = truth[2]["near_midnight"] = True
    truth[2] |= {"syn_logged": False, "syn_ack_logged": False}
    tables[2] |= {"basis": "carried"}
    for row in tables[:3]:
        row["bytes_sent"] = 0
    truth[3] |= {"state": "unsolicited", "syn_logged": False}
    found = world.compare(tmp_path)
    assert (found.found, found.octets, found.initiators, found.initiators_at_midnight) == (
        Share(3, 3),
        Share(3, 3),
        Share(2, 2),
        Share(2, 2),
    )
    swap_ends(tables[2])
    found = world.compare(tmp_path)
    assert found.initiators_at_midnight == Share(1, 2)
    assert found.bases["carried"] == Basis(Share(0, 1), 1.0)
    assert [one.split(":")[0] for one in found.shortcomings(WITH_FLAGS)] == ["initiators_at_midnight"]


def test_ends_that_no_row_shows_are_missing_but_known_to_be_hidden(world: World, tmp_path: Path) -> None:
    world.truth["connections"][0]["ends_logged"] = False
    del world.tables["connections"][0], world.tables["nat_mappings"][0]
    found = world.compare(tmp_path)
    assert (found.found, found.found_shown, found.initiators) == (Share(5, 6), Share(5, 5), Share(5, 6))
    assert (found.nat_pairs, found.nat_pairs_shown) == (Share(1, 2), Share(1, 1))
    assert [one.split(":")[0] for one in found.shortcomings(DEFAULT_FORMAT)] == ["initiators"]


def test_a_wrong_nat_pair_shows_and_a_sure_one_is_named(world: World, tmp_path: Path) -> None:
    world.tables["nat_mappings"][0]["nat_port"] = 9_999
    found = world.compare(tmp_path)
    assert (found.nat_pairs, found.wrong_pairs) == (Share(1, 2), 1)
    assert found.shortcomings(WITH_FLAGS)[-1] == "wrong NAT pairs with confidence above 0.9: 1"
    world.tables["nat_mappings"][0]["confidence"] = 0.8
    found = world.compare(tmp_path)
    assert (found.nat_pairs, found.wrong_pairs) == (Share(1, 2), 0)


def test_a_pair_that_the_truth_does_not_have_is_wrong_too(world: World, tmp_path: Path) -> None:
    invented = {**world.tables["nat_mappings"][0], "inside_addr": "10.0.1.99"}
    hop = {**invented, "nat_kind": "transit_gateway", "confidence": 1.0}
    unpaired = {**invented, "nat_addr": None, "nat_port": None, "candidates": 0, "confidence": 1.0}
    world.tables["nat_mappings"] += [hop, unpaired]
    assert world.compare(tmp_path).wrong_pairs == 0
    world.tables["nat_mappings"] += [invented]
    found = world.compare(tmp_path)
    assert (found.nat_pairs, found.wrong_pairs) == (Share(2, 2), 1)


def test_look_alikes_share_their_confidence(world: World, tmp_path: Path) -> None:
    truth, tables = world.truth["nat"], world.tables["nat_mappings"]
    for row in truth:
        row |= {"distinguishable": False, "candidates": 2}
    ports = [row["nat_port"] for row in tables]
    tables[:] = [{**row, "nat_port": port, "candidates": 2, "confidence": 0.5} for row in tables for port in ports]
    found = world.compare(tmp_path)
    assert (found.look_alikes, found.nat_pairs, found.wrong_pairs) == (Share(2, 2), Share(0, 0), 0)
    for row in tables[:2]:
        row["confidence"] = 0.9
    assert world.compare(tmp_path).look_alikes == Share(1, 2)
    # Too many to be listed: one row without a port, at its share.
    tables[:2] = [{**tables[0], "nat_port": None, "candidates": 10, "confidence": 0.1}]
    assert world.compare(tmp_path).look_alikes == Share(2, 2)


def test_totals_are_exact_except_at_the_days_edges(world: World, tmp_path: Path) -> None:
    for row in world.tables["subnet_bytes"]:
        row["bytes"] += 1
    found = world.compare(tmp_path)
    assert (found.subnet_hours, found.edge_hours) == (Share(0, 1), Share(0, 1))
    assert [one.split(":")[0] for one in found.shortcomings(DEFAULT_FORMAT)] == ["subnet_hours"]
    world.tables["subnet_bytes"] = [hour(13, 300)[1]]
    found = world.compare(tmp_path)
    assert (found.subnet_hours, found.edge_hours) == (Share(0, 2), Share(0, 1))


def test_buckets_are_weighed_by_bytes_and_their_sum_is_checked(world: World, tmp_path: Path) -> None:
    account = {(row["scope"], row["measure"], row["bucket"]): row for row in world.tables["reconciliation"]}
    account["subnet", "bytes", "counted"]["value"] -= 10
    account["subnet", "bytes", "nat_leg"]["value"] += 10
    found = world.compare(tmp_path)
    assert (found.buckets, found.account) == (Share(640, 650), Share(4, 4))
    account["connection", "records", "counted"]["value"] -= 1
    assert world.compare(tmp_path).account == Share(3, 4)
    world.tables["reconciliation"] = []
    found = world.compare(tmp_path)
    assert (found.buckets, found.account) == (Share(0, 650), Share(0, 4))


def test_a_table_that_was_not_made_is_no_figure_and_one_without_rows_is(world: World, tmp_path: Path) -> None:
    world.tables = {"connections": world.tables["connections"]}
    found = world.compare(tmp_path / "one")
    assert (found.found, found.nat_pairs, found.wrong_pairs, found.subnet_hours, found.account) == (Share(6, 6), None, None, None, None)
    assert str(found).count("not made") == 8
    assert "nat_pairs: not made" in found.shortcomings(WITH_FLAGS)
    world.tables = {"nat_mappings": []}
    found = world.compare(tmp_path / "other")
    assert (found.found, found.nat_pairs) == (None, Share(0, 2))


def test_only_the_tables_current_version_is_read(world: World, tmp_path: Path) -> None:
    world.compare(tmp_path)
    del world.tables["connections"][0]
    found = world.compare(tmp_path)
    assert len(list((tmp_path / "tables" / "connections").rglob("*.parquet"))) == 2
    assert (found.found, found.known) == (Share(5, 6), Share(5, 5))
