"""What must be known of a whole day before a single connection is judged: who answers, who is visited by many, who forwards, who balances.

In: batches of records. Out: rows of `CLUES`, hashes of ends, names and addresses of observers; only the count of visitors needs the batches
brought together (`visited`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flowlog_udfs import endpoints
from flowlog_udfs.attribution import Hashes
from flowlog_udfs.columns import Flags, Groups, Ints, codes, mixed, numbers
from flowlog_udfs.endpoints import actions
from flowlog_udfs.ends import Ends
from flowlog_udfs.inventory import NETWORK_LOAD_BALANCER
from flowlog_udfs.observed import REJECTED, SENDER, UNKNOWN_SIDE, end_hashes
from flowlog_udfs.protocols import has_flags
from flowlog_udfs.services import PORT_ORDER, WELL_KNOWN_PORT, PortRules
from flowlog_udfs.sides import Seen, Vantage
from flowlog_udfs.sorting import distinct, sort_by
from flowlog_udfs.survey import observers
from flowlog_udfs.tcp_flags import is_syn, is_syn_ack

HANDSHAKES = pa.schema([("key", pa.uint64()), ("end", pa.uint64()), ("answered", pa.bool_())])
SERVER, FAN_IN, BALANCED, MIDDLEBOX, SHOWN = "server", "fan-in", "balanced", "middlebox", "shown"
CLUES = pa.schema([("clue", pa.string()), ("end", pa.int64()), ("observer", pa.string()), ("address", pa.string())])
VISITS = pa.schema([("end", pa.uint64()), ("peer", pa.uint64()), ("arrived", pa.bool_()), ("undecided", pa.bool_())])
FAN_IN_PEERS = 3
"""So many peers that spoke with an end, both ways, make it a likely server."""


_NOT_ASKED = {
    *("packets", "bytes", "start", "end", "log_status", "encryption_status", "reject_reason", "pkt_src_aws_service", "pkt_dst_aws_service")
}
READ = tuple(name for name in endpoints.READ if name not in _NOT_ASKED)
"""The columns of `records` that are needed."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of records, its ends, and who saw each: a place in `names`."""

    records: pa.Table
    ends: Ends
    observer: Ints
    names: pa.Array

    @classmethod
    def of(cls, records: pa.Table) -> Batch:
        """What all clues ask of records with the columns of `READ`."""
        return cls(records, Ends.of(records), *codes(observers(records)))


def clues(batch: Batch, vantage: Vantage) -> pa.Table:
    """The clues of one batch: `balanced` clients' ends at network load balancers, `middlebox` observers with packets of others, and what
    regional NAT gateways that nothing names have `shown` as their own addresses, which the survey knows where flow-direction is logged.
    """
    records, ends, observer = batch.records, batch.ends, batch.observer
    listed = [vantage.survey.interfaces[name] for name in batch.names.to_pylist()]
    balances = np.array([one.kind == NETWORK_LOAD_BALANCER for one in listed], dtype=bool)
    guessed = np.array([not one.forwards for one in listed], dtype=bool)
    nameless = np.array([one.is_regional and one.observer[0] == "@" for one in listed], dtype=bool)
    shows = nameless[observer] & np.asarray(records.column("flow_direction").is_null()) & ~ends.of_inside_leg
    differs = ends.source_differs | ends.target_differs
    looked_at = np.flatnonzero(ends.both & (balances[observer] | shows | (guessed[observer] & differs)))
    few = records.take(pa.array(looked_at))
    seen = Seen.of(few, vantage)
    transit = seen.transit()[0]
    middleboxes = sorted({seen.interfaces[one].observer for one in np.unique(seen.observer[transit])})
    at_balancer = np.array([one.kind == NETWORK_LOAD_BALANCER for one in seen.interfaces], dtype=bool)[seen.observer]
    at_balancer &= ~transit & (seen.side != UNKNOWN_SIDE)
    client_port = np.where(seen.side == SENDER, numbers(few.column("dstport"), -1), numbers(few.column("srcport"), -1))
    few_names = pa.array([one.observer for one in seen.interfaces], pa.string())
    (who, client, port), _ = distinct(seen.observer[at_balancer], seen.peer[at_balancer], client_port[at_balancer])
    balanced = np.unique(_hashed(vantage, few_names, seen.ends, who, client, port))
    told = np.flatnonzero(shows[looked_at] & (seen.side != UNKNOWN_SIDE))
    (who, local), _ = distinct(seen.observer[told], seen.local[told])
    found = [{"clue": MIDDLEBOX, "observer": name} for name in middleboxes]
    for place, word in zip(who.tolist(), local.tolist(), strict=True):
        found.append({"clue": SHOWN, "observer": seen.interfaces[place].observer, "address": seen.ends.words[word].as_py()})
    return pa.concat_tables([_clue(BALANCED, balanced), pa.Table.from_pylist(found, CLUES)])


def _clue(name: str, hashes: Hashes) -> pa.Table:
    nothing = pa.nulls(len(hashes), pa.string())
    return pa.table([[name] * len(hashes), pa.array(hashes.view(np.int64)), nothing, nothing], schema=CLUES)


def handshakes(batch: Batch, vantage: Vantage) -> pa.Table:
    """Who asked and who answered, by five-tuple: rows of `HANDSHAKES` with the end that sent a SYN, without ACK or with."""
    records, ends, observer, names = batch.records, batch.ends, batch.observer, batch.names
    flow_log, logs = codes(records.column("flow_log_id"))
    trusted = np.array([not vantage.survey.flow_logs[name].every_flag for name in logs.to_pylist()], dtype=bool)[flow_log]
    protocol = numbers(records.column("protocol"), -1)
    flags = np.where(has_flags(protocol), numbers(records.column("tcp_flags"), -1), -1)
    answered = is_syn_ack(flags) & trusted & (actions(records) != REJECTED)
    chosen = np.flatnonzero((is_syn(flags) | answered) & ends.both)
    out, back = (numbers(records.column(name), -1)[chosen] for name in ("srcport", "dstport"))
    source = _hashed(vantage, names, ends, observer[chosen], ends.source[chosen], out)
    target = _hashed(vantage, names, ends, observer[chosen], ends.target[chosen], back)
    answered = answered[chosen]
    # The order of the two ends does not matter to the sum.
    with np.errstate(over="ignore"):
        key = mixed(source + target, protocol[chosen])
    return pa.table([key, source, answered], schema=HANDSHAKES)


def proven(found: pa.Table) -> pa.Table:
    """The `server` clues of whole five-tuples: ends whose SYN with ACK answers a SYN of the other end."""
    key, end = found.column("key").to_numpy(), found.column("end").to_numpy()
    answered = numbers(found.column("answered"), 0) == 1
    order = np.argsort(key, kind="stable")
    groups = Groups.of(key[order])
    # The asking end of each five-tuple, if there is one; two ends that both asked leave either.
    asks = np.flatnonzero(~answered[order])
    asker = np.zeros(len(groups), np.uint64)
    asker[groups.ids[asks]] = end[order][asks]
    asked = groups.spread(groups.any(~answered[order]))
    return _clue(SERVER, np.unique(end[order][answered[order] & asked & (end[order] != groups.spread(asker))]))


def visits(batch: Batch, vantage: Vantage, ports: PortRules) -> pa.Table:
    """Which end was visited by which, of accepted packets whose ports tell no well-known service: rows of `VISITS`, each end in its turn.

    `undecided` marks ends of pairs that no port rule but the lower port decides: only for those it matters how many visit.
    """
    records, ends, observer, names = batch.records, batch.ends, batch.observer, batch.names
    from_port, to_port = (numbers(records.column(name), -1) for name in ("srcport", "dstport"))
    protocol = numbers(records.column("protocol"), -1)
    verdict = ports.judge(np.maximum(from_port, 0), np.maximum(to_port, 0), protocol)
    open_ports = (from_port >= 0) & (to_port >= 0) & (verdict.responder >= 0) & (verdict.basis != WELL_KNOWN_PORT)
    chosen = np.flatnonzero(open_ports & ends.both & (actions(records) != REJECTED))
    undecided = (verdict.basis == PORT_ORDER).astype(np.int64)
    parts = (observer, ends.source, from_port, ends.target, to_port, protocol, undecided)
    (who, source, out, target, back, kind, which), _ = distinct(*(part[chosen] for part in parts))
    here, there = _hashed(vantage, names, ends, who, source, out), _hashed(vantage, names, ends, who, target, back)
    here, there = mixed(here, kind), mixed(there, kind)
    return pa.table(
        [
            np.concatenate((here, there)),
            np.concatenate((there, here)),
            np.repeat((False, True), len(here)),
            np.tile(which == 1, 2),
        ],
        schema=VISITS,
    )


def visited(found: pa.Table) -> pa.Table:
    """The `fan-in` clues of whole ends: those that at least `FAN_IN_PEERS` peers spoke with, both ways."""
    end, peer = found.column("end").to_numpy(), found.column("peer").to_numpy()
    arrived, undecided = (np.asarray(found.column(name).combine_chunks()).astype(bool) for name in ("arrived", "undecided"))
    order = sort_by(end, peer)
    pairs = Groups.of(end[order], peer[order])
    both = pairs.any(arrived[order]) & pairs.any(~arrived[order])
    ends = Groups.of(end[order][pairs.starts])
    matters = ends.any(pairs.any(undecided[order]))
    many = end[order][pairs.starts][ends.starts][(ends.sum(both) >= FAN_IN_PEERS) & matters]
    return _clue(FAN_IN, many)


def _hashed(vantage: Vantage, names: pa.Array, ends: Ends, observer: Ints, address: Ints, port: Ints) -> Hashes:
    """The hash of each end: the network of its observer, address and port."""
    networks = [zlib.crc32(vantage.survey.interfaces[name].network.encode()) for name in names.to_pylist()]
    high, low = ends.packed
    return end_hashes(np.array(networks, np.int64)[observer], high[address], low[address], port)


def sorted_hashes(found: pa.Table, clue: str) -> Hashes:
    """The distinct hashes of one clue, in order."""
    chosen: Flags = np.asarray(found.column("clue").combine_chunks().to_numpy(zero_copy_only=False) == clue)
    ends = found.column("end").combine_chunks().filter(pa.array(chosen))
    return np.unique(np.asarray(ends, np.int64).view(np.uint64))
