"""What a sample plants for the compliance rules: every rule has a case, the policy is one that loads, and a clean sample has nothing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flowlog_udfs.errors import UsageError
from flowlog_udfs.inventory import Inventory, load_inventory
from flowlog_udfs.policy.loading import load_policy
from flowlog_udfs.policy.model import Policy
from flowlog_udfs.sample import SampleRequest, make_sample
from flowlog_udfs.sample.day import KINDS, PROFILES, draw_traffic, observe
from flowlog_udfs.sample.planted import HOSTS, PORTS, REFUSALS
from flowlog_udfs.sample.violations import CASES, VIOLATIONS
from jobs.make_sample_logs import main, parse_arguments

DAY = date(2026, 6, 4)
REQUEST = SampleRequest("", DAY, connections=2_000, history=3, history_connections=500, seed=7, streams=False, idle_rows=True)
Rows = list[dict[str, Any]]


class Sample:
    """A sample in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def truth(self, day: date, table: str = "planted") -> Rows:
        return pq.ParquetFile(self.root / f"truth/day={day}/{table}.parquet").read().to_pylist()

    def planted(self, day: date = DAY) -> Rows:
        return [row for row in self.truth(day) if row["status"] != "never"]

    @property
    def inventory(self) -> Inventory:
        return load_inventory(self.root / "inventory.json")

    @property
    def policy(self) -> Policy:
        return load_policy(self.root / "policy.toml")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("planted")
    make_sample(replace(REQUEST, output=str(root)))
    return Sample(root)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("clean")
    make_sample(
        SampleRequest(str(root), DAY, days=5, connections=3_000, profile="clean", file_format="text", idle_rows=True, streams=False)
    )
    return Sample(root)


def test_every_rule_that_logs_can_break_has_a_case_on_the_day(sample: Sample) -> None:
    rules = {rule.id for rule in sample.policy.rules}
    # A day without a run is the runner's doing: no logs can plant it.
    assert {row["rule"] for row in sample.planted()} == rules - {"ledger-hole"}
    assert {case.rule for cases in CASES.values() for case in cases} <= rules
    assert {row["status"] for row in sample.truth(DAY)} == {"open", "suppressed", "expired", "never"}


def test_rules_about_history_have_their_cases_on_the_last_day_only(sample: Sample) -> None:
    for before in range(1, 4):
        rules = {row["rule"] for row in sample.planted(DAY - timedelta(days=before))}
        assert not rules & {"large-transfer", "first-seen-peer"}
        # The others are there every day.
        assert rules == {row["rule"] for row in sample.planted()} - {"large-transfer", "first-seen-peer"}


def test_a_day_without_three_before_it_plants_nothing_about_history(tmp_path: Path) -> None:
    make_sample(replace(REQUEST, output=str(tmp_path), history=0))
    assert not {row["rule"] for row in Sample(tmp_path).planted()} & {"large-transfer", "first-seen-peer"}


def test_four_days_in_a_row_hold_every_case_too(tmp_path: Path) -> None:
    make_sample(SampleRequest(str(tmp_path), DAY, days=4, connections=3_000, streams=False))
    last = Sample(tmp_path).planted(DAY + timedelta(days=3))
    assert {rule.id for rule in load_policy(None).rules} - {row["rule"] for row in last} == {"ledger-hole"}


def test_planted_connections_are_logged_as_the_truth_says(sample: Sample) -> None:
    by_kind = defaultdict(list)
    for row in sample.truth(DAY, "connections"):
        by_kind[row["kind"]].append(row)
    ends = {(row["kind"], row["initiator_addr"], row["responder_addr"]) for rows in by_kind.values() for row in rows}
    for kind, cases in CASES.items():
        assert by_kind[kind], kind
        assert not any(row["near_midnight"] for row in by_kind[kind] if kind != "blocked"), kind
        for case in cases:
            # Their ports are those of the rule, and what is refused is refused.
            about = sample.policy.by_id[case.rule].what
            ranges = getattr(about, "ports", None)
            if not case.never and ranges and ranges.ranges:
                ports = {(row["protocol"], row["responder_port"]) for row in by_kind[kind]}
                assert all(any(p == q and low <= port <= high for q, low, high in ranges.ranges) for p, port in ports), kind
    for row in sample.planted():
        if row["kind"] in CASES and len(row["subject_addrs"]) == 2:
            one, other = row["subject_addrs"]
            assert (row["kind"], one, other) in ends or (row["kind"], other, one) in ends
    scanned = {row["responder_port"] for row in by_kind["port-scan"]}
    swept = {(row["responder_network"], row["responder_addr"]) for row in by_kind["sweep"]}
    checked = {(row["responder_network"], row["responder_addr"]) for row in by_kind["health-checks"]}
    assert (len(scanned) >= 2 * PORTS, len(swept) >= HOSTS, len(checked) >= HOSTS, len(by_kind["search-refused"]) >= REFUSALS) == (
        True,
    ) * 4


def test_what_must_never_be_named_is_named_by_nothing_planted(sample: Sample) -> None:
    never = {(row["rule"], *row["subject_addrs"]) for row in sample.truth(DAY) if row["status"] == "never"}
    assert {rule for rule, _ in never} >= {"admin-from-internet", "cleartext", "dns-to-internet", "host-sweep", "segmentation"}
    assert not never & {(row["rule"], address) for row in sample.planted() for address in row["subject_addrs"]}


def test_fields_that_rules_need_are_logged_where_their_cases_are() -> None:
    observed = observe(replace(REQUEST, history=0), PROFILES["default"], 2_000)
    formats = defaultdict(set)
    connection = observed.traffic.flows["connection"][observed.streams["flow"]]
    for number, (kind, log) in enumerate(zip(observed.traffic.connections["kind"][connection], observed.streams["log"], strict=True)):
        if observed.streams["flow"][number] >= 0:
            formats[KINDS[kind].name].update(observed.logs[log].format)
    for kind in VIOLATIONS:
        if "internet" in kind.name or kind.name.startswith(("dns", "vault-peers", "vault-new", "vendor", "winrm", "upload")):
            assert {"pkt-src-aws-service", "pkt-dst-aws-service", "tcp-flags"} <= formats[kind.name], kind.name
    assert "reject-reason" in formats["blocked"] & formats["not-encrypted"]
    assert "encryption-status" in formats["ldap-encrypted"]


def test_the_policy_loads_and_knows_segments_by_each_means(sample: Sample, clean: Sample) -> None:
    loaded = sample.policy
    segments = {one.name: one for one in loaded.segments}
    assert all((segments["app"].cidrs, segments["databases"].subnets, segments["cardholder"].tags))
    assert [one.name for one in loaded.segments if one.sensitive] == ["cardholder"]
    tagged = [one for one in sample.inventory.subnets if segments["cardholder"].tags[0] in one.tags]
    assert [one.cidrs for one in tagged] == [("10.100.1.0/24",)]
    assert set(segments["databases"].subnets) < {one.subnet_id for one in sample.inventory.subnets}
    assert all(row.approval.holds(DAY) for row in loaded.allowed)
    holding = [(one.rule, one.approval.holds(DAY), one.approval.holds(DAY - timedelta(days=1))) for one in loaded.waivers]
    assert holding == [("admin-from-internet", True, True), ("segmentation", True, True), ("segmentation", False, True)]
    assert (clean.policy.waivers, clean.policy.segments[0]) == ((), segments["app"])


def test_an_exception_that_runs_out_counts_from_the_day_after(sample: Sample) -> None:
    for day, status in ((DAY, "expired"), (DAY - timedelta(days=1), "suppressed")):
        assert {row["status"] for row in sample.planted(day) if row["kind"] == "vault-metrics"} == {status}


def test_a_clean_sample_plants_nothing(clean: Sample) -> None:
    for number in range(5):
        day = DAY + timedelta(days=number)
        assert clean.planted(day) == []
        assert {row["action"] for row in clean.truth(day, "connections")} == {"ACCEPT"}
    # Its sensitive segment meets the same peers every day, or the rule about new ones would have nothing to look at.
    peers = [
        {row["responder_addr"] for row in clean.truth(DAY + timedelta(days=n), "connections") if row["kind"] == "vault-peers"}
        for n in range(5)
    ]
    assert len(peers[0]) == 3
    assert all(one == peers[0] for one in peers)


def test_clean_days_send_about_the_same(clean: Sample) -> None:
    sent: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for number in range(5):
        for row in clean.truth(DAY + timedelta(days=number), "subnets"):
            if row["direction"] == "out" and row["peer_scope"] in ("internet", "aws-tenant") and row["bucket"] == "counted":
                sent[row["subnet_id"]][number] += row["bytes"]
    assert len(sent) > 3
    for days in sent.values():
        assert max(days) < 100_000_000 + 3 * float(np.median(days))


def test_idle_rows_leave_no_interval_without_a_row(sample: Sample) -> None:
    """Only the flow logs whose life begins or ends in the day, and the one silenced interface."""
    gaps = [(row["kind"], row["subject_addrs"][0]) for row in sample.planted() if row["rule"] == "coverage-gap"]
    logs = {log.flow_log_id: log for log in sample.inventory.flow_logs}
    assert sorted(kind for kind, _ in gaps) == ["empty-hours"] * 5 + ["silence"]
    assert {name for _, name in gaps} < set(logs)
    before = sample.planted(DAY - timedelta(days=1))
    assert [row["kind"] for row in before if row["rule"] == "coverage-gap"] == ["silence"]
    assert all(log.resource_id for log in logs.values())
    assert len({link.via for link in sample.inventory.links}) == len(sample.inventory.links) == 3
    missing = {row["subject_addrs"][0] for row in sample.planted() if row["rule"] == "expected-missing"}
    vpcs = {one.vpc_id for one in sample.inventory.vpcs}
    assert (len(missing & vpcs), len(missing - vpcs)) == (1, 6)


def test_nodata_rows_stand_only_where_nothing_else_does() -> None:
    observed = observe(replace(REQUEST, history=0), PROFILES["clean"], 1_000)
    streams = observed.streams[observed.records["stream"]]
    nitro, phase = (observed.topology.numbers(name)[streams["interface"]] for name in ("nitro", "phase"))
    length = np.where(nitro, 60, np.array([log.interval for log in observed.logs])[streams["log"]])
    window = (observed.records["start"] - phase % length) // length
    places = {True: set(), False: set()}
    for idle, *place in zip(
        (streams["flow"] < 0).tolist(), streams["log"].tolist(), streams["interface"].tolist(), window.tolist(), strict=True
    ):
        places[idle].add(tuple(place))
    assert not places[True] & places[False]
    for log, interface in sorted({place[:2] for place in places[True]})[::25]:
        step = 60 if observed.topology.interfaces[interface].nitro else observed.logs[log].interval
        seen = {at for one, other, at in places[True] | places[False] if (one, other) == (log, interface)}
        assert seen >= set(range(86_400 // step))


def test_a_history_changes_nothing_about_the_day() -> None:
    """The same connections, but for when the sample's first midnight is."""
    alone, after = (draw_traffic(replace(REQUEST, history=days), PROFILES["default"], 2_000) for days in (0, 3))
    size = len(alone.connections)
    assert (after.connections[:size] == alone.connections).all()
    flows = after.flows[: len(alone.flows)].copy()
    flows["start"] -= 3 * 86_400
    assert np.allclose(flows["start"], alone.flows["start"])
    assert len(after.connections) > size
    first_starts = after.flows["start"][len(alone.flows) :]
    assert first_starts.max() < 3 * 86_400 + 100


def test_new_kinds_are_few_beside_a_day_of_traffic() -> None:
    planted = {number for number, kind in enumerate(KINDS) if kind in VIOLATIONS}
    kinds = draw_traffic(replace(REQUEST, history=0), PROFILES["default"], 20_000).connections["kind"]
    assert 200 < np.isin(kinds, list(planted)).sum() < 400
    for profile in ("clean", "bench"):
        drawn = set(draw_traffic(replace(REQUEST, history=0), PROFILES[profile], 2_000).connections["kind"].tolist()) & planted
        assert {KINDS[number].name for number in drawn} == ({"vault-listed", "vault-peers"} if profile == "clean" else set())


def test_the_command_makes_history_and_idle_rows(tmp_path: Path) -> None:
    given = ["--output", str(tmp_path), "--day", "2026-03-10"]
    assert parse_arguments([*given, "--history", "3"]).first_day == date(2026, 3, 7)
    for options, idle in (
        ([], True),
        (["--clean"], True),
        (["--records", "50"], False),
        (["--profile", "bench"], False),
        (["--no-idle-rows"], False),
    ):
        assert parse_arguments([*given, *options]).idle_rows == idle
    assert main([*given, "--connections", "200", "--history", "1", "--history-connections", "100", "--no-idle-rows"]) == 0
    assert {path.name for path in (tmp_path / "truth").iterdir()} == {"day=2026-03-09", "day=2026-03-10"}
    assert {path.name for path in tmp_path.iterdir()} == {"AWSLogs", "truth", "inventory.json", "policy.toml"}
    with pytest.raises(UsageError, match="positive"):
        make_sample(SampleRequest(str(tmp_path), DAY, history=-1))
