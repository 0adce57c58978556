"""Table `coverage`: what was read of each flow log in each hour, zeros kept."""

from collections import Counter
from datetime import date, datetime, timezone
from typing import Any

import pyarrow as pa

from flowlog_udfs.coverage import COVERAGE, SIGHTINGS, coverage, expected_interfaces, handed_back, sightings, summed
from flowlog_udfs.inventory import read_inventory
from flowlog_udfs.objects import FAILED, ObjectRow
from flowlog_udfs.records import RECORDS, RECORDS_TGW

DAY = date(2026, 3, 10)
MIDNIGHT = int(datetime(2026, 3, 10, tzinfo=timezone.utc).timestamp())
NOON = MIDNIGHT + 12 * 3600


def an_object(published: int, **values: Any) -> ObjectRow:
    at = datetime.fromtimestamp(published, timezone.utc)
    return ObjectRow("key", "", 100, at, "123456789012", "us-east-1", "fl-1", at, "plain", **values)


def rows(*records: dict[str, Any], schema: pa.Schema = RECORDS) -> pa.Table:
    plain = pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in schema])
    return pa.Table.from_pylist([{name: record.get(name) for name in plain.names} for record in records], plain).cast(schema)


def record(start: int, interface: str = "eni-a", **values: Any) -> dict[str, Any]:
    return {"interface_id": interface, "start": start, "end": start + 59, "action": "ACCEPT", "log_status": "OK", **values}


def covered(objects: list[ObjectRow], sighted: pa.Table, skipped: int = 0, inventory: Any = None) -> list[dict[str, Any]]:
    table = coverage(DAY, objects, sighted, late_hours=2, skipped=skipped, inventory=inventory)
    assert table.schema == COVERAGE
    return table.to_pylist()


def test_every_row_says_what_the_run_was_told_to_read() -> None:
    nothing = {"late_hours": 2, "skipped": 1, "inventory": None}
    table = coverage(DAY, [an_object(NOON)], SIGHTINGS.empty_table(), only=({"2", "1"}, frozenset()), **nothing)
    assert {(*row["only_accounts"], row["only_regions"]) for row in table.to_pylist()} == {("1", "2", None)}
    table = coverage(DAY, [an_object(NOON)], SIGHTINGS.empty_table(), **nothing)
    assert {(row["only_accounts"], row["only_regions"]) for row in table.to_pylist()} == {(None, None)}


def test_an_hour_with_nothing_is_a_row_of_zeros() -> None:
    one = an_object(NOON + 600, lines=4, records=3, headers=1)
    table = covered([one], sightings(rows(record(NOON), record(NOON, "eni-b"), record(NOON + 60)), one))
    assert [row["hour"].hour for row in table] == list(range(24))
    noon = table[12]
    assert (noon["objects"], noon["lines"], noon["records"], noon["accepted"], noon["interfaces"]) == (1, 4, 3, 3, 2)
    assert noon["first_start"] == datetime.fromtimestamp(NOON, timezone.utc)
    assert noon["last_end"] == datetime.fromtimestamp(NOON + 119, timezone.utc)
    assert all(row["objects"] == row["records"] == row["interfaces"] == 0 and row["first_start"] is None for row in table if row != noon)


def test_statuses_are_counted_apart_and_an_interface_once_for_all_its_objects() -> None:
    one = an_object(NOON)
    silent = record(NOON, action=None, log_status="NODATA")
    lost = record(NOON, action=None, log_status="SKIPDATA")
    refused = record(NOON, action="REJECT")
    taken = [sightings(rows(silent, lost), one), sightings(rows(refused, record(NOON)), one)]
    noon = covered([one, one], pa.concat_tables(taken))[12]
    assert {name: noon[name] for name in ("records", "accepted", "rejected", "nodata", "skipdata", "interfaces", "objects")} == {
        "records": 4,
        "accepted": 1,
        "rejected": 1,
        "nodata": 1,
        "skipdata": 1,
        "interfaces": 1,
        "objects": 2,
    }


def test_what_tasks_hand_back_adds_up_in_any_order() -> None:
    one = an_object(NOON)
    parts = [sightings(rows(record(NOON + 60 * n, f"eni-{n % 2}")), one) for n in range(6)]
    structs = [pa.chunked_array([pa.array(part.to_pylist(), pa.struct(list(part.schema)))]) for part in reversed(parts)]
    column = pa.chunked_array([chunk for array in structs for chunk in array.chunks] + [pa.nulls(2, structs[0].type)])
    order = [("interface_id", "ascending")]
    assert handed_back(column).sort_by(order) == summed(parts).sort_by(order)
    assert summed([summed(parts[:3]), summed(parts[3:])]).sort_by(order) == summed(parts).sort_by(order)


def test_records_of_other_days_that_their_runs_do_not_read_are_late() -> None:
    known = an_object(MIDNIGHT + 3600, other_days=Counter({date(2026, 3, 9): 5}))
    late = an_object(MIDNIGHT + 3 * 3600, other_days=Counter({date(2026, 3, 9): 7, date(2026, 3, 11): 2}))
    table = covered([known, late], sightings(rows(), known))
    assert [row["late_records"] for row in table if row["late_records"]] == [9]


def test_objects_published_after_midnight_count_in_the_last_hour() -> None:
    after = an_object(MIDNIGHT + 24 * 3600 + 1800)
    assert covered([after], sightings(rows(record(NOON)), after))[23]["objects"] == 1


def test_failed_and_skipped_objects_are_counted() -> None:
    broken = an_object(NOON)
    broken.status = FAILED
    table = covered([broken], sightings(rows(), broken), skipped=3)
    assert (table[0]["flow_log_id"], table[0]["skipped_objects"]) == (None, 3)
    assert table[13]["failed_objects"] == 1
    assert len(table) == 25


def test_records_without_times_count_in_the_hour_of_publication_and_those_without_interface_too() -> None:
    one = an_object(NOON)
    bare = rows({"srcaddr": "10.0.0.1", "action": "REJECT"}, {"srcaddr": "10.0.0.2"})
    noon = covered([one], sightings(bare, one))[12]
    assert (noon["records"], noon["rejected"], noon["interfaces"], noon["first_start"]) == (2, 1, 0, None)


def test_transit_gateway_records_count() -> None:
    one = an_object(NOON)
    assert covered([one], sightings(rows({"start": NOON, "log_status": "OK"}, schema=RECORDS_TGW), one))[12]["records"] == 1


def test_expected_are_the_interfaces_of_what_the_flow_log_watches() -> None:
    interfaces = [
        {"NetworkInterfaceId": name, "InterfaceType": "interface", "VpcId": vpc, "SubnetId": subnet}
        for name, vpc, subnet in (("eni-1", "vpc-1", "subnet-1"), ("eni-2", "vpc-1", "subnet-2"), ("eni-3", "vpc-2", "subnet-3"))
    ]
    logs = [{"FlowLogId": f"fl-{n}", "ResourceId": resource} for n, resource in enumerate(("vpc-1", "subnet-2", "eni-3"))]
    listed = read_inventory({"TakenAt": "2026-03-10T00:00:00Z", "NetworkInterfaces": interfaces, "FlowLogs": logs}, "inventory")
    assert expected_interfaces(listed) == {"fl-0": 2, "fl-1": 1, "fl-2": 1}
    assert expected_interfaces(None) == {}
