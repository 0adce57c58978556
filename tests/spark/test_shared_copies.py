"""A whole day under pseudonyms: no id and no address of any table is in what leaves the house, and amounts are what they were."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from stored import arrow, rows

from flowlog_udfs.catalog import TABLES
from flowlog_udfs.command import main as flowlog
from flowlog_udfs.pseudonyms import Pseudonyms

KEY = b"a key of this test, 32 bytes long or more"
NAMED = re.compile(
    r".*(_addr|_address|srcaddr|dstaddr|account_id|accounts|vpc_id|vpc_ids|subnet_id|instance_id|interface_id|interfaces|nat_id|flow_log_id|finding_id)"
)
"""Columns of tables that name somebody."""


def names_of(tables: Path) -> set[str]:
    """Every account, resource and address of every table."""
    found: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, str):
            found.add(value)
        elif isinstance(value, list | tuple):
            for one in value:
                collect(one)

    present = [entry.table.name for entry in TABLES if (tables / entry.table.name).exists()]
    for table in present:
        held = arrow(tables, table)
        for name in filter(NAMED.fullmatch, held.column_names):
            column = held.column(name)
            collect((column if pa.types.is_nested(column.type) else column.unique()).to_pylist())
    # A few ids of the sample are words of the language.
    return {name for name in found if re.search(r"\d", name)}


def words_of(text: str) -> set[str]:
    """All that could be a name, whatever stands around it."""
    return set(re.findall(r"[\w.:-]*\w", text)) | set(re.findall(r"[\w-]+|[\w.]+", text)) | set(re.findall(r"[\w:]+", text))


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


def test_no_name_of_the_day_is_in_the_copy_of_its_report(days, key, tmp_path, capsys):
    words = ["report", "--warehouse", str(days.tables), "--pseudonyms", str(key), "--output", str(tmp_path), "--day"]
    names = names_of(days.tables)
    assert len(names) > 1_000
    made = {}
    for day in (days.day, days.day.replace(day=days.day.day - 1)):
        assert flowlog([*words, str(day)]) == 0
        folder = tmp_path / f"day={day}"
        original = (days.tables / "reports" / f"day={day}" / "report.json").read_text()
        assert len(names & words_of(original)) > 100
        texts = [path.read_text() for path in folder.iterdir()]
        assert len(texts) == 2
        for text in [*texts, capsys.readouterr().out.replace(str(tmp_path), "")]:
            assert names & words_of(text) == set()
        made[day] = json.loads((folder / "report.json").read_text())
        before = json.loads(original)
        assert sum(one["bytes_in"] for one in made[day]["subnets"]) == sum(one["bytes_in"] for one in before["subnets"])
        assert len(made[day]["findings"]) == len(before["findings"])
    # The same names on both days: days can be compared.
    subnets = [{one["subnet_id"] for one in document["subnets"] if one["subnet_id"]} for document in made.values()]
    assert len(subnets[0] & subnets[1]) > 5


def test_no_name_of_the_day_is_in_its_events(spark, days, key, export, tmp_path, capsys):
    words = ["--warehouse", str(days.tables), "--day", str(days.day), "--pseudonyms", str(key)]
    assert export(lambda: spark, words) == 1
    assert capsys.readouterr().err == "flowlog: --pseudonyms: the table keeps the names; give --json-lines too\n"
    assert export(lambda: spark, [*words, "--json-lines", str(days.tables / "records")]) == 1
    assert capsys.readouterr().err.endswith("lies among the warehouse's tables and reports; give another place\n")
    files = []
    for place in ("one", "two"):
        assert export(lambda: spark, [*words, "--json-lines", str(tmp_path / place)]) == 0
        assert "events in table" not in capsys.readouterr().out
        files.append({path.name: path.read_bytes() for path in (tmp_path / place / f"day={days.day}").iterdir()})
    assert files[0] == files[1]
    assert not (days.tables / "ocsf_network_activity").exists()

    text = "".join(gzip.decompress(content).decode() for content in files[0].values())
    assert names_of(days.tables) & words_of(text) == set()
    events = [json.loads(line) for line in text.splitlines()]
    connections = [row for row in rows(days.tables, "connections") if row["day"] == days.day]
    pseudonyms = Pseudonyms(KEY)
    wanted = {f"{pseudonyms.number(row['connection_id']) & 2**64 - 1:016x}": row for row in connections}
    assert sorted(event["metadata"]["uid"] for event in events) == sorted(wanted)
    ids = {f"{row['connection_id'] & 2**64 - 1:016x}" for row in connections}
    assert ids & words_of(text) == set()
    for event in events:
        row = wanted[event["metadata"]["uid"]]
        assert event["src_endpoint"]["ip"] == pseudonyms.address(row["initiator_addr"])
        assert event["dst_endpoint"].get("subnet_uid") == (row["responder_subnet_id"] and pseudonyms.resource(row["responder_subnet_id"]))
        assert event["connection_info"]["protocol_ver_id"] == (6 if ":" in row["initiator_addr"] else 4)
        assert event["traffic"]["bytes_out"] == row["bytes_sent"]
    for content in files[0].values():
        order = [int(json.loads(line)["metadata"]["uid"], 16) for line in gzip.decompress(content).splitlines()]
        signed = [one - 2**64 if one >= 2**63 else one for one in order]
        assert signed == sorted(signed)
    assert any("intermediate_ips" in event["src_endpoint"] for event in events)
    assert any("region" in event["cloud"] for event in events)
    validator = jsonschema.Draft202012Validator(
        OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0")).get_class_schema("network_activity", ["cloud", "security_control"])
    )
    assert [error.message for event in events[::20] for error in validator.iter_errors(event)] == []


def test_every_text_of_a_connection_is_a_name_or_a_word():
    from flowlog_udfs.connections import CONNECTIONS
    from flowlog_udfs.ocsf.pseudonymous import NAMES

    texts = {one.name for one in CONNECTIONS if not pa.types.is_primitive(one.type)}
    own_words = {"initiator_kind", "action", "verdict_by", "state", "closed_by", "basis", "nat_leg", "traffic_class", "reject_reason"}
    assert texts - set(NAMES) == own_words | {"initiator_scope", "responder_scope"}
