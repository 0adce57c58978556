"""The steps after ingest on Spark: golden cases from objects to tables, days that follow each other, and what a job says when it cannot."""

from __future__ import annotations

import json
import re
from contextlib import redirect_stdout
from datetime import date, datetime, timedelta, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden.loader import GOLDEN, Case, mismatches
from logtree import V2, LogTree, at, row
from pyspark.sql import SparkSession
from stored import log_entries, rows

from flowlog_udfs import delta, totals
from flowlog_udfs.behind_nat import behind_nat
from flowlog_udfs.cli import run_steps
from flowlog_udfs.connections import CONNECTIONS, CONNECTIONS_TABLE
from flowlog_udfs.day import STEPS
from flowlog_udfs.errors import UsageError
from flowlog_udfs.inventory import load_inventory
from flowlog_udfs.sample import SampleRequest, make_sample
from flowlog_udfs.subnets import RECONCILIATION, SUBNET_BYTES
from flowlog_udfs.tables import Warehouse
from tests.benchmarks.accuracy import WITH_FLAGS, accuracy

RESULTS = ("connections", "nat_mappings", "subnet_bytes", "reconciliation")
CASES = (
    "connections/announcement",
    "connections/aws-syn-then-fin",
    "connections/aws-trace-without-flags",
    "connections/open-for-three-days",
    "endpoints/nat-in-the-default-format",
    "endpoints/one-address-in-two-vpcs",
    "observations/each-bucket",
    "observations/object-delivered-twice",
    "observations/overlapping-flow-logs",
    "nat/balancer-that-keeps-the-client",
    "nat/two-alike",
    "nat/known-by-forwarding",
    "nat/two-regional-without-flow-direction",
    "nat/two-regional-without-resource-id",
    "subnets/hours",
)


def run(spark: SparkSession, source: Path, warehouse: Path, day: object, *options: object, steps: Any = STEPS) -> int:
    arguments = ["--source", source, "--warehouse", warehouse, "--day", day, *options]
    return run_steps("test", steps, lambda: spark, [str(argument) for argument in arguments])


def run_case(spark: SparkSession, case: Case, folder: Path, *options: object) -> list[dict[str, Any]]:
    """The days of a case one after the other, with what each was to give; returns the tables after each."""
    found = []
    for day in case.days:
        day.write_objects(folder / "logs")
        more = list(options)
        if day.inventory is not None:
            inventory = folder / "inventory.json"
            inventory.write_text(json.dumps({"TakenAt": f"{day.day}T00:00:00Z", **day.inventory}))
            more += ["--inventory", inventory]
        assert run(spark, folder / "logs", folder / "tables", day.day, *more) == 0
        tables = {name: [one for one in rows(folder / "tables", name) if one["day"] == day.day] for name in RESULTS}
        assert mismatches(day.expect, tables) == []
        found.append(tables)
    return found


@pytest.mark.parametrize("name", CASES)
def test_golden_case(spark, tmp_path, name: str):
    run_case(spark, Case(GOLDEN / name), tmp_path)


def test_parquet_tables_hold_the_same(spark, tmp_path):
    case = Case(GOLDEN / "nat" / "balancer-that-keeps-the-client")
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    assert run_case(spark, case, tmp_path / "one") == run_case(spark, case, tmp_path / "other", "--table-format", "parquet")


def test_columns_stand_in_the_order_of_the_contract(spark, tmp_path):
    run_case(spark, Case(GOLDEN / "nat" / "two-alike"), tmp_path)
    owners = [f"{end}_{name}" for end in ("initiator", "responder") for name in ("account_id", "vpc_id", "subnet_id", "instance_id")]
    frame = spark.read.format("delta").load(str(tmp_path / "tables" / "connections"))
    assert frame.columns[:6] == ["initiator_addr", "initiator_port", "responder_addr", "responder_port", "protocol", "episode"]
    assert set(owners) < set(frame.columns)
    assert frame.columns == [*CONNECTIONS.names, "day"]
    types = dict(frame.dtypes)
    assert (types["first_start"], types["confidence"], types["interfaces"], types["attempts"]) == (
        "timestamp",
        "double",
        "array<string>",
        "bigint",
    )
    for name, schema in (("subnet_bytes", SUBNET_BYTES), ("reconciliation", RECONCILIATION)):
        assert spark.read.format("delta").load(str(tmp_path / "tables" / name)).columns == [*schema.names, "day"]


def test_a_day_says_which_day_it_leans_on(spark, tmp_path):
    case = Case(GOLDEN / "connections" / "open-for-three-days")
    run_case(spark, case, tmp_path)
    warehouse = Warehouse.open(str(tmp_path / "tables"))
    first, second, third = (warehouse.origin(CONNECTIONS_TABLE, day.day) for day in case.days)
    assert first.carried_from is None
    assert (second.carried_from, third.carried_from) == (first.inputs, second.inputs)
    assert len({first.inputs, second.inputs, third.inputs}) == 3


def test_a_second_run_gives_the_same_rows(spark, tmp_path):
    case = Case(GOLDEN / "observations" / "each-bucket")
    first = run_case(spark, case, tmp_path)
    assert run_case(spark, case, tmp_path) == first
    assert len({json.dumps(commit.get(delta.INPUTS_KEY)) for commit in log_entries(tmp_path / "tables", "connections", "commitInfo")}) == 1


def test_connections_that_were_attributed_anew_need_their_marks(spark, tmp_path, capsys):
    case = Case(GOLDEN / "nat" / "balancer-that-keeps-the-client")
    (before,) = run_case(spark, case, tmp_path)
    inventory = ["--inventory", tmp_path / "inventory.json"] if (tmp_path / "inventory.json").exists() else []

    def step(*names: str) -> int:
        return run(spark, tmp_path / "logs", tmp_path / "tables", case.days[0].day, *inventory, steps={name: STEPS[name] for name in names})

    assert Warehouse.open(str(tmp_path / "tables")).origin(CONNECTIONS_TABLE, case.days[0].day).inputs.endswith("/marked")
    assert step("attribute_initiators") == 0
    capsys.readouterr()
    assert step("total_subnet_bytes") == 3
    assert "tables connections and nat_mappings are of different runs" in capsys.readouterr().err
    assert step("map_nat", "total_subnet_bytes") == 0
    assert {name: rows(tmp_path / "tables", name) for name in RESULTS} == before


def test_a_sample_day_of_all_kinds_of_traffic_is_right(spark, tmp_path):
    logs, tables = tmp_path / "logs", tmp_path / "tables"
    make_sample(SampleRequest(str(logs), date(2026, 3, 10), connections=6_000, streams=False))
    assert run(spark, logs, tables, "2026-03-10", "--inventory", logs / "inventory.json") == 0
    found = accuracy(tables, logs, date(2026, 3, 10))
    assert found.shortcomings(WITH_FLAGS) == []
    assert found.initiators_by_flags.of > 4_000
    assert found.nat_pairs.of > 500

    # The comparison sees what is wrong: another initiator, a byte more, another port at the NAT, a connection that is not there.
    truth = logs / "truth" / "day=2026-03-10"
    connections = pq.read_table(truth / "connections.parquet").to_pandas()
    judged = connections[connections.syn_logged & ~connections.near_midnight & (connections.late_records == 0)].index
    swapped, heavier, missing = judged[:3]
    ends = ["initiator_addr", "initiator_port"], ["responder_addr", "responder_port"]
    connections.loc[swapped, [*ends[0], *ends[1]]] = connections.loc[swapped, [*ends[1], *ends[0]]].to_numpy()
    connections.loc[heavier, "bytes_sent"] += 1
    connections.loc[missing, "responder_port"] = 1
    pq.write_table(pa.Table.from_pandas(connections, preserve_index=False), truth / "connections.parquet")
    nat = pq.read_table(truth / "nat.parquet").to_pandas()
    told = nat[nat.distinguishable & ~nat.near_midnight & (nat.late_records == 0) & (nat.nat_kind == "nat_gateway")].index
    nat.loc[told[0], "nat_port"] += 1
    pq.write_table(pa.Table.from_pandas(nat, preserve_index=False), truth / "nat.parquet")
    wrong = accuracy(tables, logs, date(2026, 3, 10))
    before, after = ((one.found, one.initiators_by_flags, one.octets, one.nat_pairs) for one in (found, wrong))
    assert [one.right - other.right for one, other in zip(before, after, strict=True)] == [1, 2, 3, 1]
    assert wrong.wrong_pairs == 1
    assert [text.split(":")[0] for text in wrong.shortcomings(WITH_FLAGS)][:3] == ["found", "initiators_by_flags", "octets"]


def test_who_was_behind_a_nat(spark, tmp_path):
    case = Case(GOLDEN / "nat" / "two-alike")
    run_case(spark, case, tmp_path)
    mapped = rows(tmp_path / "tables", "nat_mappings")
    warehouse = Warehouse.open(str(tmp_path / "tables"))
    moment = mapped[0]["first_start"]
    found = behind_nat(spark, warehouse, mapped[0]["nat_addr"], 1111, moment).collect()
    assert sorted((one["inside_addr"], one["confidence"]) for one in found) == [("10.0.1.5", 0.5), ("10.0.1.6", 0.5)]
    assert behind_nat(spark, warehouse, mapped[0]["nat_addr"], 1111, moment + timedelta(hours=1)).count() == 0
    assert behind_nat(spark, warehouse, mapped[0]["nat_addr"], 3333, moment).count() == 0
    with pytest.raises(UsageError, match="needs its zone"):
        behind_nat(spark, warehouse, "10.0.0.220", 1111, datetime(2026, 3, 10, 10))


def test_a_knock_at_a_nat_gateway_is_no_finding(spark, tmp_path):
    run_case(spark, Case(GOLDEN / "connections" / "knock-at-a-nat"), tmp_path)
    assert {one["rule"] for one in rows(tmp_path / "tables", "findings")} == {"coverage-gap"}
    outcomes = {one["rule"]: one["outcome"] for one in rows(tmp_path / "tables", "assessments")}
    assert outcomes["admin-from-internet-unanswered"] == "pass"


def test_a_public_address_finds_the_gateways_private_one(spark, tmp_path):
    run_case(spark, Case(GOLDEN / "nat" / "two-alike"), tmp_path)
    mapped = rows(tmp_path / "tables", "nat_mappings")[0]
    gateway = {
        "NatGatewayId": "nat-1",
        "VpcId": "vpc-1",
        "State": "available",
        "NatGatewayAddresses": [{"PrivateIp": mapped["nat_addr"], "PublicIp": "192.0.2.7", "NetworkInterfaceId": "eni-nat"}],
    }
    (tmp_path / "nat.json").write_text(json.dumps({"TakenAt": "2026-03-10T00:00:00Z", "NatGateways": [gateway]}))
    found = behind_nat(
        spark,
        Warehouse.open(str(tmp_path / "tables")),
        "192.0.2.7",
        mapped["nat_port"],
        mapped["first_start"].astimezone(timezone.utc),
        load_inventory(tmp_path / "nat.json"),
    )
    assert {one["inside_addr"] for one in found.collect()} == {"10.0.1.5", "10.0.1.6"}


def test_the_summary_names_subnets_bases_and_pairs(spark, tmp_path):
    with redirect_stdout(StringIO()) as printed:
        run_case(spark, Case(GOLDEN / "nat" / "two-alike"), tmp_path)
    told = printed.getvalue()
    assert re.search(r"^initiator  by syn \d+ \(\d+\.\d%\)", told, re.M) or re.search(r"^initiator  by syn\+syn-ack \d+", told, re.M)
    assert re.search(r"^nat        \d+ mappings found \(alike 4\), 0 inside legs left unpaired$", told, re.M)
    assert re.search(r"^subnet     subnet-\S+: [\d,]+ bytes sent and received$", told, re.M)
    assert re.search(r"^bytes by subnet +([\d,]+) = ", told, re.M)


@pytest.mark.parametrize("step", ["attribute_initiators", "map_nat", "total_subnet_bytes"])
def test_a_step_without_the_one_before_is_status_2(spark, tmp_path, capsys, step: str):
    (tmp_path / "logs").mkdir()
    assert run(spark, tmp_path / "logs", tmp_path / "tables", "2026-03-10", steps={step: STEPS[step]}) == 2
    assert re.search(r"flowlog: 2026-03-10: table \w+ has no such day; run \w+ first$", capsys.readouterr().err, re.M)


def test_steps_one_by_one_give_what_one_run_gives(spark, tmp_path):
    case = Case(GOLDEN / "observations" / "each-bucket")
    (tmp_path / "one").mkdir()
    (together,) = run_case(spark, case, tmp_path / "one")
    (day,) = case.days
    day.write_objects(tmp_path / "logs")
    options: list[object] = []
    if day.inventory is not None:
        options = ["--inventory", tmp_path / "one" / "inventory.json"]
    for name, step in STEPS.items():
        assert run(spark, tmp_path / "logs", tmp_path / "tables", day.day, *options, steps={name: step}) == 0
    assert {name: rows(tmp_path / "tables", name) for name in RESULTS} == together


def test_a_day_of_nothing_but_transit_gateway_rows_or_nodata(spark, tmp_path):
    tree = LogTree.in_folder(tmp_path / "logs")
    start = at("10T00:01:00")
    tree.text("10T0010", [f"2 123456789012 eni-1 - - - - - - - {start} {start + 59} - NODATA"], header=V2)
    assert run(spark, tmp_path / "logs", tmp_path / "tables", "2026-03-10") == 0
    assert rows(tmp_path / "tables", "connections") == rows(tmp_path / "tables", "subnet_bytes") == []
    account = {(one["scope"], one["measure"], one["bucket"]): one["value"] for one in rows(tmp_path / "tables", "reconciliation")}
    assert account["subnet", "records", "nodata"] == account["subnet", "records", "raw"] == 1


def test_a_byte_too_few_is_status_2_and_replaces_nothing(spark, tmp_path, capsys, monkeypatch):
    tree = LogTree.in_folder(tmp_path / "logs")
    tree.text("10T0010", [row(at("10T00:01:00"))], header=V2)
    assert run(spark, tmp_path / "logs", tmp_path / "tables", "2026-03-10") == 0
    before = rows(tmp_path / "tables", "subnet_bytes")
    counted = totals._raw
    monkeypatch.setattr(totals, "_raw", lambda *arguments: (counted(*arguments)[0], counted(*arguments)[1] + 1))
    assert run(spark, tmp_path / "logs", tmp_path / "tables", "2026-03-10") == 2
    assert "the buckets hold" in capsys.readouterr().err
    assert rows(tmp_path / "tables", "subnet_bytes") == before


def test_a_wrong_inventory_is_status_1(spark, tmp_path, capsys):
    (tmp_path / "logs").mkdir()
    (tmp_path / "inventory.json").write_text('{"TakenAt": "2026-03-10T00:00:00Z", "Vpc": []}')
    assert run(spark, tmp_path / "logs", tmp_path / "tables", "2026-03-10", "--inventory", tmp_path / "inventory.json") == 1
    assert "Vpc" in capsys.readouterr().err
