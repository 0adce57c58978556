"""The sample against itself: what can be read back from its objects, by the plainest means, is what its truth says."""

from __future__ import annotations

import gzip
import hashlib
import ipaddress
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flowlog_udfs.errors import UsageError
from flowlog_udfs.keys import parse_key
from flowlog_udfs.sample import SampleRequest, make_sample
from flowlog_udfs.sample.formats import ALPHABETICAL, ANNOUNCEMENT, DEFAULT, RICH
from flowlog_udfs.sample.layout import build_topology
from flowlog_udfs.sample.observation import assign_ports
from flowlog_udfs.sample.traffic import connect
from jobs.make_sample_logs import main

DAY = date(2026, 6, 1)
REQUEST = SampleRequest("", DAY, connections=3_000, seed=7)
BUCKETS = {"counted", "duplicate_delivery", "duplicate_subscription", "nat_leg", "transit_only", "no_subnet", "nodata", "skipdata"}

Row = dict[str, str | None]


@dataclass(frozen=True)
class Sample:
    """A sample in a folder, read back without any of flowlog's readers."""

    root: Path
    day: date = DAY

    def truth(self, table: str) -> list[dict]:
        return pq.ParquetFile(self.root / f"truth/day={self.day}/{table}.parquet").read().to_pylist()

    @cached_property
    def connections(self) -> dict[int, dict]:
        return {row["connection"]: row for row in self.truth("connections")}

    @cached_property
    def inventory(self) -> dict:
        return json.loads((self.root / "inventory.json").read_text())

    @cached_property
    def lines(self) -> dict[str, list[bytes]]:
        """Lines of each text object by key."""
        texts = {path: gzip.decompress(path.read_bytes()) for path in self.root.glob("AWSLogs/**/*.log.gz")}
        return {str(path.relative_to(self.root)): text.removesuffix(b"\n").split(b"\n") for path, text in texts.items()}

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """Good rows of each object by key: text, `-` as None. Bad lines are those that the truth names."""
        bad = {(row["key"], row["line_number"]) for row in self.truth("bad_lines")}
        found: dict[str, list[Row]] = {}
        for key, lines in self.lines.items():
            names = lines[0].decode().split(" ")
            good = [line for number, line in enumerate(lines, 1) if line and line != lines[0] and (key, number) not in bad]
            found[key] = [{n: None if v == "-" else v for n, v in zip(names, line.decode().split(), strict=True)} for line in good]
        for path in self.root.glob("AWSLogs/**/*.log.parquet"):
            table = pq.ParquetFile(path).read()
            names = [name.replace("_", "-") for name in table.column_names]
            values = table.rename_columns(names).to_pylist()
            found[str(path.relative_to(self.root))] = [
                {name: None if value in (None, "-") else str(value) for name, value in row.items()} for row in values
            ]
        return found

    def today(self, row: Row) -> bool:
        return datetime.fromtimestamp(int(row["start"] or 0), timezone.utc).date() == self.day

    def delivered_once(self) -> Iterator[tuple[str, Row]]:
        """Rows of the day with their flow log, objects delivered a second time left out."""
        for account in self.truth("objects"):
            if account["copy_of"] is None:
                yield from ((account["flow_log_id"], row) for row in self.rows[account["key"]] if self.today(row))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("sample")
    make_sample(replace(REQUEST, output=str(root)))
    return Sample(root)


def tree(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def test_equal_requests_give_equal_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    small = replace(REQUEST, connections=300)
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        make_sample(replace(small, output=str(tmp_path / name), seed=seed))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert not set(tree(tmp_path / "one").values()) & set(tree(tmp_path / "other").values())


def test_every_key_follows_the_grammar_and_holds_rows_that_end_about_then(sample: Sample) -> None:
    late = 0
    for key, rows in sample.rows.items():
        parsed = parse_key(key)
        assert parsed is not None, key
        ends = [int(row["end"] or 0) - parsed.published_at.timestamp() for row in rows]
        if min(ends) < -3_600:
            late += 1
            assert parsed.published_at == datetime(2026, 6, 2, 3, 5, tzinfo=timezone.utc)
        else:
            # An interface's own delay moves rows by less than a minute across the nominal five.
            assert min(ends) >= -60, key
            assert max(ends) < 300, key
    assert late == 1
    assert {parse_key(key).layout for key in sample.rows} == {"plain", "hourly", "hive", "hive-hourly"}  # type: ignore[union-attr]


def test_all_formats_are_there_with_their_version(sample: Sample) -> None:
    headers = {tuple(lines[0].decode().split(" ")) for lines in sample.lines.values()}
    assert headers == {DEFAULT, ANNOUNCEMENT, ALPHABETICAL, RICH}
    versions = {(len(row), row["version"]) for rows in sample.rows.values() for row in rows}
    assert versions == {(14, "2"), (21, "3"), (29, "5"), (54, "11")}


def test_objects_table_accounts_for_every_line(sample: Sample) -> None:
    accounts = {row["key"]: row for row in sample.truth("objects")}
    for key, rows in sample.rows.items():
        account = accounts[key]
        assert account["lines"] == sum(account[part] for part in ("headers", "blank", "records", "rejects", "other_day"))
        assert account["size_bytes"] == (sample.root / key).stat().st_size
        assert account["records"] == sum(sample.today(row) for row in rows)
        assert account["records"] + account["other_day"] == len(rows)
        if lines := sample.lines.get(key):
            assert account["lines"] == len(lines)
            assert account["headers"] == lines.count(lines[0])
            assert account["blank"] == lines.count(b"")
    totals = {part: sum(row[part] for row in accounts.values()) for part in ("blank", "rejects", "other_day")}
    assert totals["blank"] == 1
    assert totals["rejects"] >= 7
    assert totals["other_day"] > 0
    assert sum(row["headers"] == 2 for row in accounts.values()) == 1
    assert any(not gzip.decompress((sample.root / key).read_bytes()).endswith(b"\n") for key in sample.lines)


def test_bad_lines_are_where_the_truth_says_and_bad_for_the_reason_given(sample: Sample) -> None:
    reasons = Counter()
    for bad in sample.truth("bad_lines"):
        names, *_ = lines = sample.lines[bad["key"]]
        line = lines[bad["line_number"] - 1]
        assert line.decode("utf-8", "replace") == bad["line"]
        reasons[bad["reason"]] += 1
        tokens = dict(zip(names.decode().split(), line.decode("utf-8", "replace").split(), strict=False))
        has = {
            "token_count": len(line.split()) != len(names.split()),
            "bad_number": tokens.get("protocol") == "six",
            "bad_address": {"999.1.1.1", "2001:db8::12345"} & set(tokens.values()),
            "bad_value": tokens.get("action") == "ALLOW",
            "bad_encoding": b"\xff" in line,
        }
        assert has[bad["reason"]]
    assert set(reasons) == {"token_count", "bad_number", "bad_address", "bad_value", "bad_encoding"}


def test_an_object_delivered_twice_has_the_same_rows_under_another_hash(sample: Sample) -> None:
    copies = [row for row in sample.truth("objects") if row["copy_of"]]
    assert len(copies) == 2
    for copy in copies:
        assert copy["key"] != copy["copy_of"]
        assert copy["key"].rsplit("_", 1)[0] == copy["copy_of"].rsplit("_", 1)[0]
        assert sample.rows[copy["key"]] == sample.rows[copy["copy_of"]]


def test_every_row_is_of_a_connection_that_passes_there(sample: Sample) -> None:
    """Rows grouped by all that identifies them equal the truth's streams, in number and size."""
    logged = defaultdict(Counter)
    for flow_log, row in sample.delivered_once():
        if row["log-status"] == "OK":
            ports = int(row["srcport"] or 0), int(row["dstport"] or 0), int(row["protocol"] or 0)
            key = (flow_log, row["interface-id"] or "-", row["action"], row["srcaddr"], row["dstaddr"], *ports)
            logged[key] += Counter(records=1, bytes=int(row["bytes"] or 0), packets=int(row["packets"] or 0))
    expected = defaultdict(Counter)
    for stream in sample.truth("streams"):
        connection = sample.connections[stream["connection"]]
        ports = (connection["initiator_port"], connection["responder_port"])[:: 1 if stream["direction"] == "sent" else -1]
        addresses = stream["logged_srcaddr"], stream["logged_dstaddr"]
        key = (stream["flow_log_id"], stream["interface_id"], stream["action"], *addresses, *ports, connection["protocol"])
        expected[key] += Counter({measure: stream[measure] for measure in ("records", "bytes", "packets")})
    assert logged == expected


def test_all_interfaces_see_the_same_bytes_of_a_direction_and_the_truth_counts_them_once(sample: Sample) -> None:
    seen = defaultdict(Counter)
    for stream in sample.truth("streams"):
        if not sample.connections[stream["connection"]]["near_midnight"]:
            seen[stream["connection"], stream["direction"]][stream["interface_id"], stream["flow_log_id"], stream["action"]] += stream[
                "bytes"
            ]
    # Where a flow log gave way to another, or shows one action only, each holds a part.
    subnets = {subnet["SubnetId"]: subnet["Tags"][0]["Value"] for subnet in sample.inventory["Subnets"]}
    shared = {name for name in subnets.values() if name.startswith(("shared", "default-1", "lab"))}
    in_parts = {i["NetworkInterfaceId"] for i in sample.inventory["NetworkInterfaces"] if subnets[i["SubnetId"]] in shared}
    several = 0
    for (number, way), places in seen.items():
        connection = sample.connections[number]
        whole = sum(connection[f"{sort}bytes_{way}"] for sort in ("", "rejected_", "late_rejected_"))
        for interface in {place[0] for place in places}:
            by_log = Counter()
            for (at, log, _), size in places.items():
                by_log[log] += size * (at == interface)
            sizes = set(by_log.values()) - {0}
            if interface in in_parts:
                assert max(sizes, default=0) <= whole <= sum(by_log.values()), connection
            else:
                assert sizes <= {whole}, connection
        several += len({place[0] for place in places}) > 1
    assert several > 500


def stream_keys(sample: Sample) -> dict[tuple, tuple[dict, str]]:
    """Connection and direction by what identifies a row."""
    found = {}
    for stream in sample.truth("streams"):
        connection = sample.connections[stream["connection"]]
        ports = (connection["initiator_port"], connection["responder_port"])[:: 1 if stream["direction"] == "sent" else -1]
        key = (stream["flow_log_id"], stream["interface_id"], stream["logged_srcaddr"], stream["logged_dstaddr"], *ports)
        found[(*key, connection["protocol"])] = connection, stream["direction"]
    return found


def row_key(flow_log: str, row: Row) -> tuple:
    numbers = (int(row[name] or 0) for name in ("srcport", "dstport", "protocol"))
    return flow_log, row["interface-id"] or "-", row["srcaddr"], row["dstaddr"], *numbers


def test_flags_are_those_of_the_side_that_sends_them_and_only_in_its_first_and_last_windows(sample: Sample) -> None:
    known, opened = stream_keys(sample), Counter()
    for flow_log, row in sample.delivered_once():
        flags = int(row.get("tcp-flags") or 0)
        if flags & 18:
            connection, way = known[row_key(flow_log, row)]
            assert row["protocol"] == "6"
            assert (flags & 18 == 2) == (way == "sent") or connection["state"] == "unsolicited"
            opened[connection["connection"]] += 1
    for number, connection in sample.connections.items():
        if connection["kind"] in ("used-again", "nat-port-again"):
            continue  # the rows of both uses look alike here
        assert (opened[number] > 0) == (connection["syn_logged"] or connection["syn_ack_logged"])
    long = [c for c in sample.connections.values() if c["kind"] == "long-lived"]
    assert any(c["records"] > 100 and opened[c["connection"]] < 12 for c in long)


def test_rows_at_gateways_look_like_those_that_aws_shows(sample: Sample) -> None:
    known = stream_keys(sample)
    kinds = {i["NetworkInterfaceId"]: i for i in sample.inventory["NetworkInterfaces"]}
    shapes = defaultdict(set)
    for flow_log, row in sample.delivered_once():
        if "pkt-srcaddr" not in row or row["log-status"] != "OK":
            continue
        connection, way = known[row_key(flow_log, row)]
        interface = kinds.get(row["interface-id"] or "")
        own = interface["PrivateIpAddress"] if interface else "107.22."
        names = {connection["initiator_addr"]: "initiator", connection["responder_addr"]: "responder", own: "own"}
        shape = (
            tuple(names[row[name]] for name in ("srcaddr", "dstaddr", "pkt-srcaddr", "pkt-dstaddr"))
            if interface
            else (tuple((row[name] or "").startswith("107.22.") for name in ("srcaddr", "dstaddr", "pkt-srcaddr", "pkt-dstaddr")))
        )
        shapes[interface["InterfaceType"] if interface else "regional", connection["nat_leg"], way].add(shape)
        if interface is None or interface["RequesterManaged"]:
            assert row["instance-id"] is None
    # The zonal gateway, in the order of AWS's example: from the instance, to the host, from the host, to the instance.
    assert shapes["nat_gateway", "inside", "sent"] == {("initiator", "own", "initiator", "responder")}
    assert shapes["nat_gateway", "outside", "sent"] == {("own", "responder", "own", "responder")}
    assert shapes["nat_gateway", "outside", "received"] == {("responder", "own", "responder", "own")}
    assert shapes["nat_gateway", "inside", "received"] == {("own", "initiator", "responder", "initiator")}
    # The regional one has no address of its own inside, and its public address outside, at both levels alike.
    assert shapes["regional", "inside", "sent"] == {(False, False, False, False)}
    assert shapes["regional", "outside", "sent"] == {(True, False, True, False)}
    assert shapes["regional", "outside", "received"] == {(False, True, False, True)}
    # A transit gateway: requests come from its own interface, replies go to it, the packet's addresses are the ends'.
    assert ("own", "responder", "initiator", "responder") in shapes["transit_gateway", None, "sent"]
    assert ("responder", "own", "responder", "initiator") in shapes["transit_gateway", None, "received"]
    # A pod's own address is at packet level only.
    pods = {c["connection"] for c in sample.connections.values() if c["kind"] == "pods"}
    node_rows = [s for s in sample.truth("streams") if s["connection"] in pods and s["part"] == "initiator" and s["direction"] == "sent"]
    assert any(s["logged_srcaddr"] != sample.connections[s["connection"]]["initiator_addr"] for s in node_rows)


def test_both_legs_of_a_translation_have_the_same_size_at_the_gateway(sample: Sample) -> None:
    sizes = defaultdict(Counter)
    for stream in sample.truth("streams"):
        sizes[stream["connection"], stream["direction"]][stream["interface_id"]] += stream["bytes"]
    checked = 0
    for mapping in sample.truth("nat"):
        inside, outside = (sample.connections[mapping[name]] for name in ("connection", "outside_connection"))
        assert (inside["nat_leg"], outside["nat_leg"]) == ("inside", "outside")
        assert inside["other_leg"] == outside["connection"]
        if mapping["nat_kind"] == "nat_gateway":
            for way in ("sent", "received"):
                legs = [sizes[c["connection"], way][mapping["nat_id"]] for c in (inside, outside)]
                assert legs[0] == legs[1] > 0
            checked += 1
            assert (mapping["inside_addr"], mapping["remote_addr"]) == (inside["initiator_addr"], inside["responder_addr"])
            assert (mapping["nat_addr"], mapping["nat_port"]) == (outside["initiator_addr"], outside["initiator_port"])
            gateway = next(i for i in sample.inventory["NetworkInterfaces"] if i["NetworkInterfaceId"] == mapping["nat_id"])
            assert mapping["nat_addr"] == gateway["PrivateIpAddress"]
    assert checked > 200
    assert {mapping["nat_kind"] for mapping in sample.truth("nat")} == {"nat_gateway", "regional_nat_gateway", "load_balancer"}


def test_look_alikes_are_counted_and_a_byte_more_tells_one_apart(sample: Sample) -> None:
    alike = [m for m in sample.truth("nat") if sample.connections[m["connection"]]["kind"] == "look-alikes"]
    assert {m["bytes_out"] for m in alike if m["distinguishable"]} >= {1_801}
    groups = Counter((m["candidates"], m["bytes_out"]) for m in alike if m["bytes_out"] == 1_800)
    assert all(times % candidates == 0 for (candidates, _), times in groups.items())
    assert max(candidates for candidates, _ in groups) >= 2


def test_five_tuples_are_used_again_only_on_purpose_and_then_long_after(sample: Sample) -> None:
    used = defaultdict(list)
    for row in sample.connections.values():
        ends = (f"{end}_{part}" for end in ("initiator", "responder") for part in ("network", "addr", "port"))
        used[(*(row[name] for name in ends), row["protocol"])].append(row)
    again = [sorted(rows, key=lambda row: row["opened_at"]) for rows in used.values() if len(rows) > 1]
    assert {row["kind"] for rows in again for row in rows} == {"used-again", "nat-port-again"}
    for rows in again:
        assert [row["episode"] for row in rows] == [1, 2]
        assert rows[1]["opened_at"] - rows[0]["closed_at"] >= timedelta(seconds=1_400)


def test_buckets_add_up_to_all_rows_and_subnets_to_their_buckets(sample: Sample) -> None:
    totals = {row["bucket"]: row for row in sample.truth("totals")}
    assert set(totals) == BUCKETS
    listed = {row["key"] for row in sample.truth("objects") if row["listed"]}
    rows = [row for key in listed for row in sample.rows[key] if sample.today(row)]
    assert sum(total["records"] for total in totals.values()) == len(rows)
    assert sum(total["bytes"] for total in totals.values()) == sum(int(row["bytes"] or 0) for row in rows)
    by_status = Counter(row["log-status"] for row in rows)
    assert totals["nodata"]["records"] == by_status["NODATA"] > 0
    assert totals["skipdata"]["records"] == by_status["SKIPDATA"] >= 5
    by_bucket = defaultdict(Counter)
    for row in sample.truth("subnets"):
        by_bucket[row["bucket"]] += Counter({name: row[name] for name in ("bytes", "records", "late_bytes", "late_records")})
    for bucket in BUCKETS - {"duplicate_delivery", "nodata", "skipdata"}:
        for name in ("bytes", "records", "late_bytes", "late_records"):
            assert by_bucket[bucket][name] == totals[bucket][name], (bucket, name)
    assert totals["counted"]["late_records"] > 0
    assert totals["duplicate_subscription"]["bytes"] > 0


def test_verdicts_are_those_of_the_observer_nearest_the_receiver(sample: Sample) -> None:
    refused = [row for row in sample.connections.values() if row["kind"] == "refused-inside"]
    assert {(row["action"], row["verdict_by"]) for row in refused} == {("REJECT", "receiver"), ("REJECT", "sender")}
    assert all(row["bytes_sent"] == 0 < row["rejected_bytes_sent"] for row in refused)
    half = [row for row in sample.connections.values() if row["kind"] == "half-pings"]
    assert {row["action"] for row in half} == {"MIXED"}
    assert {(row["bytes_sent"], row["bytes_received"], row["rejected_bytes_received"]) for row in half} == {(168, 84, 84), (168, 0, 168)}
    late = [row for row in sample.connections.values() if row["kind"] == "late-rejects"]
    assert {(row["action"], row["late_rejected_bytes_sent"]) for row in late} == {("ACCEPT", 40)}


def test_the_cases_that_are_easily_lost_are_there(sample: Sample) -> None:
    rows = [row for _, row in sample.delivered_once()]
    blocked = [row for row in rows if row.get("reject-reason") == "BPA"]
    assert blocked
    assert all(row["bytes"] is None and row["packets"] for row in blocked)
    assert max(int(row["bytes"] or 0) for row in rows) > 2**31
    assert {row["account-id"] for row in rows} == {"123456789012", "048512345678", "unknown"}
    assert {row.get("type") for row in rows} >= {"IPv4", "IPv6"}
    assert {int(row["protocol"]) for row in rows if row["protocol"]} == {1, 6, 17, 47, 50, 58}
    assert {row.get("traffic-path") for row in rows} >= {"1", "4", "7", "8", None}
    assert {row.get("pkt-dst-aws-service") for row in rows} >= {"S3", "EC2", None}
    swept = [row for row in sample.connections.values() if row["kind"] == "sweep"]
    assert {row["initiator_addr"] for row in swept} == {"198.51.100.9"}
    both = Counter(row["responder_addr"] for row in swept if row["responder_addr"].startswith("172.31."))
    assert set(both.values()) == {2}
    for vpc in sample.inventory["Vpcs"]:
        inside = [subnet for subnet in sample.inventory["Subnets"] if subnet["VpcId"] == vpc["VpcId"]]
        network = ipaddress.ip_network(vpc["CidrBlock"])
        assert all(ipaddress.ip_network(subnet["CidrBlock"]).subnet_of(network) for subnet in inside)


def test_one_format_for_all_writes_the_same_traffic(tmp_path: Path) -> None:
    samples = []
    for fields in ("v2", "announcement"):
        make_sample(replace(REQUEST, output=str(tmp_path / fields), connections=500, fields=fields, file_format="text"))
        samples.append(Sample(tmp_path / fields))
    names = ("interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "bytes", "packets", "start", "end", "action", "log-status")
    two, three = (Counter((log, *(row[name] for name in names)) for log, row in sample.delivered_once()) for sample in samples)
    assert two == three
    assert {lines[0].decode().count(" ") for lines in samples[0].lines.values()} == {13}
    assert all(path.suffix == ".gz" for path in tmp_path.glob("*/AWSLogs/**/*.log.*"))


def test_a_clean_day_breaks_no_rule(tmp_path: Path) -> None:
    assert main(["--output", str(tmp_path), "--day", "2026-06-01", "--connections", "500", "--clean"]) == 0
    clean = Sample(tmp_path)
    assert {row["action"] for row in clean.connections.values()} == {"ACCEPT"}
    assert not {row["responder_port"] for row in clean.connections.values() if row["protocol"] == 6} & {21, 22, 23, 80, 3389, 8080}
    assert not clean.truth("bad_lines")
    assert {row["log-status"] for _, row in clean.delivered_once()} == {"OK", "NODATA"}
    assert not any(row["copy_of"] or not row["listed"] or row["blank"] for row in clean.truth("objects"))


def test_profiles_give_the_number_of_objects_they_name(tmp_path: Path) -> None:
    bench = make_sample(SampleRequest(str(tmp_path / "bench"), DAY, records=20_000, profile="bench"))
    assert bench.objects == 24
    assert abs(bench.records - 20_000) < 1_000
    read = Sample(tmp_path / "bench")
    assert {tuple(lines[0].decode().split()) for lines in read.lines.values()} == {ANNOUNCEMENT}
    assert not any(row["other_day"] or row["rejects"] for row in read.truth("objects"))
    many = make_sample(SampleRequest(str(tmp_path / "many"), DAY, connections=500, objects=3_000))
    assert many.objects >= 3_000


def test_days_in_a_row_share_connections_over_midnight(tmp_path: Path) -> None:
    make_sample(replace(REQUEST, output=str(tmp_path), days=2, connections=500))
    first, second = Sample(tmp_path), Sample(tmp_path, DAY + timedelta(days=1))
    both = set(first.connections) & set(second.connections)
    assert both
    for number in both:
        before, after = first.connections[number], second.connections[number]
        assert before["opened_at"] == after["opened_at"]
        assert before["syn_logged"] or before["opened_at"].date() < DAY
        assert not after["syn_logged"] or after["opened_at"].date() > DAY or after["near_midnight"]
    assert any(not second.connections[number]["syn_logged"] for number in both)
    late = {row["key"] for row in first.truth("objects") if not row["listed"]}
    assert late
    assert late <= {row["key"] for row in second.truth("objects") if row["other_day"] and not row["records"]}


@pytest.mark.parametrize(
    "wrong", [["--days", "0"], ["--day", "yesterday"], ["--profile", "none"], ["--connections", "5", "--records", "5"], ["--records", "0"]]
)
def test_wrong_use_is_status_1_and_one_line(wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(tmp_path), "--day", "2026-06-01", *wrong]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_one_client_cannot_have_more_connections_than_ports() -> None:
    topology = build_topology(0, 4, plain=True)
    connections = connect(28_232, initiator=1, responder=2, responder_port=443)
    assign_ports(topology, connections)
    assert len(set(connections["initiator_port"].tolist())) == 28_232
    with pytest.raises(UsageError, match="ports"):
        assign_ports(topology, connect(28_233, initiator=1, responder=2, responder_port=443))
