"""A day's export to OCSF on Spark: every connection once, the same bytes each time, and lines that the published schema takes."""

from __future__ import annotations

import gzip
import json

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from stored import rows

CHECKED = 500


def test_a_day_as_ocsf(spark, days, export, tmp_path, capsys):
    own, lines = days.copied(tmp_path), tmp_path / "lines"
    words = ["--warehouse", str(own.tables), "--day", str(own.day), "--json-lines", str(lines)]
    assert export(lambda: spark, words) == 0
    connections = [row for row in rows(own.tables, "connections") if row["day"] == own.day]
    assert f"{len(connections):,} events in table ocsf_network_activity" in capsys.readouterr().out
    table = rows(own.tables, "ocsf_network_activity")
    files = {path.name: path.read_bytes() for path in sorted((lines / f"day={own.day}").iterdir())}
    events = [json.loads(line) for content in files.values() for line in gzip.decompress(content).splitlines()]
    wanted = {f"{row['connection_id'] & 2**64 - 1:016x}": row for row in connections}
    for found in (table, events):
        assert sorted(one["connection_info"]["uid"] for one in found) == sorted(wanted)
        assert sum(one["traffic"]["bytes_out"] for one in found) == sum(row["bytes_sent"] for row in connections)
        assert sum(one["traffic"]["bytes_in"] for one in found) == sum(row["bytes_received"] for row in connections)
    for event in events:
        row = wanted[event["connection_info"]["uid"]]
        assert (event["src_endpoint"]["ip"], event["dst_endpoint"]["ip"]) == (row["initiator_addr"], row["responder_addr"])

    validator = jsonschema.Draft202012Validator(
        OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0")).get_class_schema("network_activity", ["cloud", "security_control"])
    )
    assert [error.message for event in events[:: max(1, len(events) // CHECKED)] for error in validator.iter_errors(event)] == []

    mapped = [row for row in rows(own.tables, "nat_mappings") if row["day"] == own.day and row["nat_addr"] and row["method"] == "exact"]
    behind = {(row["inside_addr"], row["inside_port"], row["remote_addr"], row["remote_port"]): row["nat_addr"] for row in mapped}
    shown = {
        (
            event["src_endpoint"]["ip"],
            event["src_endpoint"].get("port"),
            event["dst_endpoint"]["ip"],
            event["dst_endpoint"].get("port"),
        ): event
        for event in events
        if "intermediate_ips" in event["src_endpoint"]
    }
    assert len(shown) > 20 and len(set(behind) & set(shown)) > 20
    assert all(behind[ends] in shown[ends]["src_endpoint"]["intermediate_ips"] for ends in set(behind) & set(shown))

    assert export(lambda: spark, words) == 0
    assert rows(own.tables, "ocsf_network_activity") == table
    assert {path.name: path.read_bytes() for path in sorted((lines / f"day={own.day}").iterdir())} == files


def test_a_day_without_connections_is_status_2(spark, export, tmp_path, capsys):
    assert export(lambda: spark, ["--warehouse", str(tmp_path), "--day", "2026-03-10"]) == 2
    assert capsys.readouterr().err == "flowlog: 2026-03-10: table connections has no such day; run attribute_initiators first\n"
    assert export(lambda: spark, ["--warehouse", str(tmp_path), "--day", "10.3.2026"]) == 1
