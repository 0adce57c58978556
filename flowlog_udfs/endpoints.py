"""Records to observed rows: packet-level ends in their network, which interface saw them, and what it is to them.

In: a batch of records and the day's survey. Out: rows of `observed.OBSERVED`, in the order of the records that have two ends.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.addresses import packed
from flowlog_udfs.columns import Flags, Ints, as_array, codes, distinct, mixed, numbers, shared_codes, texts
from flowlog_udfs.fields import EGRESS, INGRESS, OK, REJECT
from flowlog_udfs.interfaces import Survey, observers
from flowlog_udfs.networks import Networks, network_without_vpc
from flowlog_udfs.observations import RECEIVER, SENDER, TRANSIT, UNKNOWN_SIDE
from flowlog_udfs.observed import OBSERVED

READ = (
    "flow_log_id",
    "account_id",
    "region",
    "interface_id",
    "resource_id",
    "vpc_id",
    "srcaddr",
    "dstaddr",
    "pkt_srcaddr",
    "pkt_dstaddr",
    "srcport",
    "dstport",
    "protocol",
    "packets",
    "bytes",
    "start",
    "end",
    "action",
    "tcp_flags",
    "flow_direction",
    "log_status",
)
"""The columns of `records` that are needed."""

SOURCE, TARGET, NOWHERE = 0, 1, -1


def observe(records: pa.Table, survey: Survey, networks: Networks, ranks: Mapping[str, int]) -> pa.Table:
    """Observed rows of a batch of records; `ranks` orders flow logs, the lowest first to be believed where two overlap."""
    has_ends = pc.and_(pc.is_valid(records.column("srcaddr")), pc.is_valid(records.column("dstaddr")))
    # A format without log-status shows traffic alone.
    has_traffic = pc.fill_null(pc.equal(records.column("log_status"), OK), True)
    records = records.filter(pc.and_(has_ends, has_traffic))
    observer, names = codes(observers(records))
    source, target = (pc.coalesce(*(as_array(records.column(n)).cast(pa.string()) for n in pair)) for pair in _ENDS)
    (source_code, target_code), words = shared_codes(source, target)
    high, low = packed(words)
    # Canonical order: by address, then port, as numbers.
    rank = np.empty(len(words), np.int64)
    rank[np.lexsort((low, high))] = np.arange(len(words))
    ports = [numbers(records.column(name), 0) for name in ("srcport", "dstport")]
    forward = _at_or_before(rank[source_code], ports[0], rank[target_code], ports[1])
    protocol = numbers(records.column("protocol"), -1)
    network, network_names = _networks(records, observer, names, survey, networks)
    network_hash = np.array([zlib.crc32(name.encode()) for name in network_names.to_pylist()], np.int64)[network]
    lo, hi = np.where(forward, source_code, target_code), np.where(forward, target_code, source_code)
    lo_port, hi_port = np.where(forward, ports[0], ports[1]), np.where(forward, ports[1], ports[0])
    action, actions = codes(records.column("action"))
    flags = as_array(records.column("tcp_flags"))
    columns = {
        "network": texts(network, network_names),
        "lo_addr": texts(lo, words),
        "lo_port": lo_port,
        "hi_addr": texts(hi, words),
        "hi_port": hi_port,
        "protocol": protocol,
        "lo_end": mixed(network_hash, high[lo], low[lo], lo_port, protocol),
        "hi_end": mixed(network_hash, high[hi], low[hi], hi_port, protocol),
        "forward": forward,
        "observer": texts(observer, names),
        "role": _roles(records, observer, names, survey),
        "packets": numbers(records.column("packets"), 0),
        "bytes": numbers(records.column("bytes"), 0),
        "start": pc.coalesce(records.column("start"), records.column("end")),
        "end": pc.coalesce(records.column("end"), records.column("start")),
        "rejected": _is_word(action, actions, REJECT),
        "flags": flags,
        "trusted_ack": ~_of_flow_log(records, {name for name, traits in survey.flow_logs.items() if traits.every_flag}),
        "only_evidence": overlapped(records, observer, names, survey, ranks),
    }
    arrays = [_as(columns[column.name], column.type) for column in OBSERVED]
    return pa.table(arrays, schema=OBSERVED)


def overlapped(records: pa.Table, observer: Ints, names: pa.Array, survey: Survey, ranks: Mapping[str, int]) -> Flags:
    """Rows that a flow log of better rank covers too: the middle of the row lies in a stretch of time that it covers at the interface.

    A flow log that shows only one action in the whole day covers only that.
    """
    result = np.zeros(len(observer), dtype=bool)
    crowded = np.array([len(survey.interfaces[name].flow_logs) > 1 for name in names.to_pylist()], dtype=bool)
    candidates = np.flatnonzero(crowded[observer])
    if not len(candidates):
        return result
    flow_log, flow_log_names = codes(records.column("flow_log_id"))
    action, actions = codes(records.column("action"))
    rejected = _is_word(action, actions, REJECT)
    start, end = numbers(records.column("start"), 0), numbers(records.column("end"), 0)
    middle = (start + end) // 2
    pairs, place = distinct(observer[candidates], flow_log[candidates])
    for number, (who, which) in enumerate(zip(*pairs, strict=True)):
        mine = candidates[place == number]
        interface = survey.interfaces[names[who].as_py()]
        own = flow_log_names[which].as_py()
        for other, stretches in interface.flow_logs.items():
            if ranks[other] < ranks[own] and stretches:
                traits = survey.flow_logs[other]
                shows_nothing = not (traits.accepts or traits.rejects)
                captured = np.where(rejected[mine], traits.rejects or shows_nothing, traits.accepts or shows_nothing)
                begins, ends = np.array(stretches).T
                at = np.searchsorted(begins, middle[mine], side="right") - 1
                result[mine] |= captured & (at >= 0) & (middle[mine] <= ends[np.maximum(at, 0)])
    return result


def own_side(records: pa.Table, observer: Ints, names: pa.Array, survey: Survey) -> Ints:
    """Which end of each record is the capturing interface's own: `SOURCE`, `TARGET` or `NOWHERE`, never guessed."""
    (source, target), words = shared_codes(records.column("srcaddr"), records.column("dstaddr"))
    from_own, to_own = (_is_own(observer, side, names, words, survey) for side in (source, target))
    side = np.where(from_own & ~to_own, SOURCE, np.where(to_own & ~from_own, TARGET, NOWHERE))
    direction, directions = codes(records.column("flow_direction"))
    side = np.where(_is_word(direction, directions, EGRESS), SOURCE, side)
    return np.where(_is_word(direction, directions, INGRESS), TARGET, side)


_ENDS = (("pkt_srcaddr", "srcaddr"), ("pkt_dstaddr", "dstaddr"))


def _roles(records: pa.Table, observer: Ints, names: pa.Array, survey: Survey) -> Ints:
    side = own_side(records, observer, names, survey)
    forwards = np.array([survey.interfaces[name].forwards for name in names.to_pylist()], dtype=bool)
    role = np.where(side == SOURCE, SENDER, np.where(side == TARGET, RECEIVER, UNKNOWN_SIDE))
    # What a middlebox forwards is not its own; what is addressed to itself is.
    return np.where(forwards[observer] & ~_at_own_end(records, observer, names, survey), TRANSIT, role)


def _at_own_end(records: pa.Table, observer: Ints, names: pa.Array, survey: Survey) -> Flags:
    """Rows of a middlebox whose packet-level ends include its own address: the outer leg of a translation."""
    result = np.zeros(len(observer), dtype=bool)
    forwarding = np.flatnonzero(np.array([survey.interfaces[name].forwards for name in names.to_pylist()], dtype=bool)[observer])
    for pair in _ENDS:
        code, words = codes(pc.coalesce(*(as_array(records.column(name)).take(pa.array(forwarding)).cast(pa.string()) for name in pair)))
        result[forwarding] |= _is_own(observer[forwarding], code, names, words, survey)
    return result


def _is_own(observer: Ints, address: Ints, names: pa.Array, words: pa.Array, survey: Survey) -> Flags:
    """Whether each address is the observer's own."""
    own = {(place, word) for place, name in enumerate(names.to_pylist()) for word in survey.interfaces[name].own}
    code_of = {word: code for code, word in enumerate(words.to_pylist())}
    pairs = [place * len(words) + code_of[word] for place, word in own if word in code_of]
    return np.isin(observer * len(words) + address, pairs, kind="sort")


def _networks(records: pa.Table, observer: Ints, names: pa.Array, survey: Survey, networks: Networks) -> tuple[Ints, pa.Array]:
    """The network of each row: that of its VPC, else of the VPC learned for its interface, else one of its flow log alone."""
    vpc, vpcs = codes(records.column("vpc_id"))
    flow_log, flow_logs = codes(records.column("flow_log_id"))
    combinations, place = distinct(observer, vpc, flow_log)
    chosen = []
    for who, where, which in zip(*combinations, strict=True):
        named = survey.interfaces[names[who].as_py()].named
        vpc_id = vpcs[where].as_py() if where >= 0 else named["vpc_id"]
        own = network_without_vpc(named["account_id"], named["region"] or "", flow_logs[which].as_py())
        chosen.append(networks.name(vpc_id) if vpc_id else own)
    code, words = codes(pa.array(chosen, pa.string()))
    return code[place], words


def _of_flow_log(records: pa.Table, chosen: set[str]) -> Flags:
    flow_log, words = codes(records.column("flow_log_id"))
    return np.array([word in chosen for word in words.to_pylist()], dtype=bool)[flow_log]


def _is_word(code: Ints, words: pa.Array, word: str) -> Flags:
    known = words.to_pylist()
    return code == known.index(word) if word in known else np.zeros(len(code), dtype=bool)


def _at_or_before(rank: Ints, port: Ints, other_rank: Ints, other_port: Ints) -> Flags:
    return (rank < other_rank) | ((rank == other_rank) & (port <= other_port))


def _as(values: pa.Array | pa.ChunkedArray | npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return array if array.type == kind else array.cast(kind)
