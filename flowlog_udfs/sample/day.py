"""Making a sample: a request in, objects, truth tables and inventory in storage out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flowlog_udfs.errors import UsageError
from flowlog_udfs.sample.delivery import DAY, TAIL, DeliveryPlan, deliver, delivery_order, misdeliver
from flowlog_udfs.sample.formats import ALPHABETICAL, ANNOUNCEMENT, DEFAULT, Format
from flowlog_udfs.sample.inventory import inventory
from flowlog_udfs.sample.layout import FlowLog, build_topology, flow_logs
from flowlog_udfs.sample.observation import Observed, assign_ports, cut_records, find_streams, mark_duplicates, split_some
from flowlog_udfs.sample.odd import ODD
from flowlog_udfs.sample.ordinary import ORDINARY
from flowlog_udfs.sample.planted import PlantedTruth
from flowlog_udfs.sample.policy import policy
from flowlog_udfs.sample.rows import midnight
from flowlog_udfs.sample.status import StatusPlan, status_rows
from flowlog_udfs.sample.topology import Topology
from flowlog_udfs.sample.traffic import Draw, Traffic, TrafficKind
from flowlog_udfs.sample.translated import TRANSLATED
from flowlog_udfs.sample.truth import Day
from flowlog_udfs.sample.truth_connections import connections_table, nat_table
from flowlog_udfs.sample.truth_totals import bad_lines_table, objects_table, streams_table, subnet_table, totals_table
from flowlog_udfs.sample.violations import VIOLATIONS
from flowlog_udfs.storage import Storage, open_storage

KINDS: tuple[TrafficKind, ...] = (*ORDINARY, *TRANSLATED, *ODD, *VIOLATIONS)
"""Every kind of traffic. A new kind is a function in one of these tuples; it gets random numbers of its own and disturbs no other."""

FORMATS: Mapping[str, Format | None] = {"announcement": ANNOUNCEMENT, "v2": DEFAULT, "v5": ALPHABETICAL, "all": None}
BEFORE = 600
"""Seconds before the first midnight at which traffic begins."""
DRAWS, HISTORY_DRAWS = 4, 6
"""What tells the random numbers of traffic from all others of the same seed."""
PILOT = 20_000
SPLIT_SHARE = 0.002
PUBLISHED_EVERY = 300


@dataclass(frozen=True)
class Profile:
    """A named sort of sample: `plain` is one VPC with one flow log, `clean` breaks no rule, `objects` how many there are to be a day."""

    plain: bool = False
    clean: bool = False
    objects: int | None = None


PROFILES: Mapping[str, Profile] = {
    "default": Profile(),
    "clean": Profile(clean=True),
    "bench": Profile(plain=True, objects=24),
    "many-objects": Profile(objects=20_000),
}


@dataclass(frozen=True)
class SampleRequest:
    """What to make. `records` (about so many) takes the place of `connections`; `objects` a day that of the profile's; `fields` is one
    of `FORMATS`; `streams` is whether to write the largest of the truth tables too.

    `history` is how many smaller days of the same places there are before `day`, of `history_connections` each. `idle_rows` is whether
    every interval without traffic has its NODATA row, as with AWS; without them nearly every interface falls silent at times.
    """

    output: str
    day: date
    days: int = 1
    history: int = 0
    history_connections: int = 1_500
    connections: int = 20_000
    records: int | None = None
    objects: int | None = None
    seed: int = 0
    profile: str = "default"
    fields: str = "all"
    file_format: Literal["text", "parquet", "mixed"] = "mixed"
    streams: bool = True
    idle_rows: bool = False

    @property
    def first_day(self) -> date:
        """The first day of all; times inside a sample count from its midnight."""
        return self.day - timedelta(days=self.history)

    @property
    def all_days(self) -> int:
        """How many days there are, those of the history included."""
        return self.history + self.days


@dataclass(frozen=True)
class SampleSummary:
    """What was made; `size_bytes` is that of the flow log objects."""

    connections: int
    records: int
    objects: int
    size_bytes: int


def make_sample(request: SampleRequest) -> SampleSummary:
    """Write a sample: objects under `AWSLogs/`, truth under `truth/day=.../`, `inventory.json` and `policy.toml`, all below the output.

    Raises `UsageError` for a request that cannot be met and `StorageError` where the output cannot be written.
    """
    numbers = (request.days, request.connections, request.history_connections, request.records, request.objects)
    if any(number is not None and number < 1 for number in numbers) or request.history < 0:
        raise UsageError("a sample needs at least one day, connection and object; give positive numbers")
    if request.profile not in PROFILES:
        raise UsageError(f"profile {request.profile!r}: give one of {', '.join(PROFILES)}")
    storage, prefix = open_storage(request.output)
    profile = PROFILES[request.profile]
    connections = request.connections if request.records is None else _connections_for(request, profile, request.records)
    observed = observe(request, profile, connections)
    plan = _delivery_plan(request, profile, observed.logs)
    order, parcels = delivery_order(observed, plan, request.all_days, np.random.default_rng([request.seed, 3]))
    epoch = midnight(request.first_day)
    if plan.faults:
        parcels = misdeliver(parcels, observed, order, request.all_days, request.seed, epoch)
    objects = deliver(storage, prefix, observed, order, parcels, seed=request.seed, epoch=epoch, faults=plan.faults)

    late = np.zeros(len(observed.records), bool)
    for parcel in parcels:
        late[order[parcel.first : parcel.last]] |= parcel.late
    with tempfile.TemporaryDirectory(prefix="flowlog-truth-") as scratch:
        local = Path(scratch, "file")
        local.write_text(json.dumps(inventory(observed.topology, observed.logs, request.day), indent=1))
        storage.put(local, f"{prefix}inventory.json")
        last = request.day + timedelta(days=request.days - 1)
        local.write_text(policy(observed.topology, request.first_day, last, clean=profile.clean))
        storage.put(local, f"{prefix}policy.toml")
        for number in range(request.all_days):
            folder = f"{prefix}truth/day={request.first_day + timedelta(days=number)}/"
            day = Day(observed, number, epoch, late)
            table = connections_table(day, KINDS)
            _put(storage, folder + "connections.parquet", table, local)
            _put(storage, folder + "nat.parquet", nat_table(day, table), local)
            _put(storage, folder + "subnets.parquet", subnet_table(day), local)
            _put(storage, folder + "objects.parquet", objects_table(day, order, objects), local)
            _put(storage, folder + "totals.parquet", totals_table(day, order, objects), local)
            _put(storage, folder + "bad_lines.parquet", bad_lines_table(objects), local)
            if not profile.plain:
                _put(storage, folder + "planted.parquet", PlantedTruth(day, table, objects, request.all_days - 1).table(), local)
            if request.streams:
                _put(storage, folder + "streams.parquet", streams_table(day), local)
    rows = sum(delivered.rows for delivered in objects)
    return SampleSummary(len(observed.traffic.connections), rows, len(objects), sum(delivered.size_bytes for delivered in objects))


def observe(request: SampleRequest, profile: Profile, connections: int) -> Observed:
    """Draw about `connections` connections and all that the flow logs hold of them."""
    topology = _topology(request, profile, connections)
    logs = _flow_logs(request, profile)
    traffic = draw_traffic(request, profile, connections)
    assign_ports(topology, traffic.connections)
    streams = find_streams(topology, logs, traffic)
    rng = np.random.default_rng([request.seed, 2])
    records = split_some(cut_records(topology, logs, traffic.flows, streams, request.all_days * DAY + TAIL), rng, SPLIT_SHARE)
    faults = not (profile.clean or profile.plain)
    plan = StatusPlan(skipped=5 * faults, silence=faults, idle=request.idle_rows)
    more_streams, more_records = status_rows(topology, logs, streams, records, rng, request.all_days, plan)
    more_records["stream"] += len(streams)
    streams, records = np.concatenate([streams, more_streams]), np.concatenate([records, more_records])
    mark_duplicates(topology, logs, streams, records)
    return Observed(topology, logs, traffic, streams, records)


def draw_traffic(request: SampleRequest, profile: Profile, connections: int) -> Traffic:
    """Draw every kind of traffic of the profile, each from random numbers of its own, for the history's days and for the sample's own."""
    topology = _topology(request, profile, connections)
    blocks = []
    # The sample's own days come first, so that ports, and with them the day itself, are the same with a history and without.
    for is_history, days, size in (
        (False, request.days, connections),
        (True, request.history, request.history * request.history_connections),
    ):
        begin, end = (0, days * DAY - 3_300) if profile.plain else (-BEFORE, days * DAY)
        chosen = (kind for kind in KINDS if (kind.plain or not profile.plain) and (kind.clean or not profile.clean))
        for kind in chosen if days else ():
            if is_history and not kind.history:
                continue
            rng = np.random.default_rng([request.seed, HISTORY_DRAWS if is_history else DRAWS, KINDS.index(kind)])
            draw = Draw(rng, topology, begin, end, days, connections, profile.clean)
            block = kind.draw(draw, max(kind.least, round(kind.share * size)))
            block.connections["kind"] = KINDS.index(kind)
            for moment in ("start", "end"):
                block.flows[moment] += 0 if is_history else request.history * DAY
            blocks.append(block)
    return Traffic.join(blocks)


def _topology(request: SampleRequest, profile: Profile, connections: int) -> Topology:
    hosts = int(np.clip(connections // 2_000, 12, 200))
    return build_topology(request.seed, hosts, plain=profile.plain, clean=profile.clean)


def _flow_logs(request: SampleRequest, profile: Profile) -> tuple[FlowLog, ...]:
    if request.fields not in FORMATS:
        raise UsageError(f"fields {request.fields!r}: give one of {', '.join(FORMATS)}")
    logs = tuple(log.starting_at(request.history * DAY) for log in flow_logs(request.seed, plain=profile.plain, clean=profile.clean))
    chosen = FORMATS[request.fields]
    if chosen:
        logs = tuple(replace(log, format=chosen) for log in logs)
    file_format = request.file_format
    return logs if file_format == "mixed" else tuple(replace(log, file_format=file_format) for log in logs)


def _delivery_plan(request: SampleRequest, profile: Profile, logs: tuple[FlowLog, ...]) -> DeliveryPlan:
    faults = not (profile.clean or profile.plain)
    objects = request.objects or profile.objects
    if objects is None:
        return DeliveryPlan(faults=faults)
    if objects < len(logs) * DAY // PUBLISHED_EVERY:
        wanted = DAY * len(logs) / objects
        # Whole numbers of periods to a day, or an object would span two.
        periods = (DAY // times for times in range(1, DAY // PUBLISHED_EVERY + 1) if DAY % (times * PUBLISHED_EVERY) == 0)
        period = next((period for period in periods if period <= wanted), PUBLISHED_EVERY)
        return DeliveryPlan(period, objects * request.all_days, faults)
    return DeliveryPlan(objects=objects * request.all_days, faults=faults)


def _connections_for(request: SampleRequest, profile: Profile, records: int) -> int:
    """How many connections give about so many records, from two pilots: some kinds have a least number, so the relation has an offset."""
    few, many = (len(observe(request, profile, size).records) for size in (PILOT, 2 * PILOT))
    return max(1, round(PILOT + (records - few) * PILOT / (many - few)))


def _put(storage: Storage, key: str, table: pa.Table, local: Path) -> None:
    pq.write_table(table, local)
    storage.put(local, key)
