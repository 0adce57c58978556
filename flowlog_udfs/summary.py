"""What a job did, in lines for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone

from flowlog_udfs.errors import one_line
from flowlog_udfs.ingest import Ingested
from flowlog_udfs.initiation import Initiation
from flowlog_udfs.nat import UNPAIRED
from flowlog_udfs.reporting import Reported
from flowlog_udfs.totals import Totals
from flowlog_udfs.translation import Translation

SHOWN_FAILURES, SHOWN_SUBNETS = 5, 5


def ingest_summary(ingested: Ingested, day: date, seconds: float) -> str:
    """Objects, lines, records, rejects by reason, bytes, seconds and speed; then what a person should look at."""
    records = ingested.total("records")
    read = len(ingested.objects) - len(ingested.failed)
    rejects = ", ".join(f"{reason} {count:,}" for reason, count in sorted(ingested.reject_reasons.items()))
    lines = [
        f"day        {day}",
        f"objects    {read:,} read, {len(ingested.failed):,} failed, {ingested.skipped:,} skipped (not flow logs)",
        f"lines      {ingested.total('lines'):,} = {ingested.total('headers'):,} headers + {ingested.total('blank'):,} blank"
        f" + {records:,} records + {ingested.total('rejects'):,} rejects + {ingested.total('other_day'):,} of other days",
        f"rejects    {rejects or 'none'}",
        f"bytes      {ingested.total('bytes'):,} logged in records, {ingested.total('size_bytes'):,} in objects",
        f"seconds    {seconds:.1f}, {records / seconds:,.0f} records per second",
    ]
    lines += [f"warning    {one_line(f'{row.key}: {row.error}')}" for row in ingested.failed[:SHOWN_FAILURES]]
    if len(ingested.failed) > SHOWN_FAILURES:
        lines.append(f"warning    … and {len(ingested.failed) - SHOWN_FAILURES:,} more objects; see table objects")
    whole = datetime.combine(day, time(), timezone.utc) + timedelta(days=1, hours=ingested.late_hours)
    if ingested.listed_at and ingested.listed_at < whole:
        lines.append(
            f"warning    the inventory is of {ingested.listed_at:%Y-%m-%dT%H:%MZ}: what came later is missing; run again with a later one"
        )
    for other, count in sorted(ingested.misfiled.items()):
        if other < day:
            lines.append(f"late       rows of {other}: {count:,}, filed later than its own run looks; run that day again to hold them")
        else:
            lines.append(f"warning    rows of {other}: {count:,}, filed before their day began")
    return "\n".join(lines)


def initiation_summary(done: Initiation) -> str:
    """Connections by basis and by state, what was carried over midnight, and what a person should look at."""
    total = sum(done.by_basis.values())
    lines = [
        f"connections {total:,}, {done.carried:,} open when the day began",
        f"initiator  by {_shares(done.by_basis, total)}",
        f"state      {_shares(done.by_state, total)}",
    ]
    if done.redelivered:
        lines.append(f"warning    {done.redelivered:,} records were delivered twice and count once")
    lines += [f"warning    {one_line(refused)}" for refused in done.refused_joins[:SHOWN_FAILURES]]
    return "\n".join(lines)


def translation_summary(done: Translation) -> str:
    """NAT legs that were paired, and those that were left."""
    left = done.by_method.get(UNPAIRED, 0)
    found = {method: count for method, count in done.by_method.items() if method != UNPAIRED}
    how = ", ".join(f"{method} {count:,}" for method, count in sorted(found.items()))
    return f"nat        {sum(found.values()):,} mappings found{f' ({how})' if how else ''}, {left:,} inside legs left unpaired"


def totals_summary(done: Totals) -> str:
    """The subnets that moved most, and the account of every byte read."""
    top = list(done.by_subnet.items())[:SHOWN_SUBNETS]
    lines = [f"subnet     {one_line(subnet_id)}: {octets:,} bytes sent and received" for subnet_id, octets in top]
    lines += [f"subnet     … and {len(done.by_subnet) - len(top):,} more; see table subnet_bytes"] if len(done.by_subnet) > len(top) else []
    for scope in ("subnet", "connection"):
        found = {bucket: value for (s, measure, bucket), value in done.account.items() if (s, measure) == (scope, "bytes") and value}
        parts = " + ".join(f"{value:,} {bucket}" for bucket, value in found.items() if bucket != "raw")
        lines.append(f"{f'bytes by {scope}':<20} {found.get('raw', 0):,} = {parts or 0}")
    return "\n".join(lines)


def report_summary(done: Reported) -> str:
    """The verdict, what is open, and where the report is."""
    verdict = done.document["verdict"]
    found = ", ".join(f"{severity} {count:,}" for severity, count in verdict["open"].items() if count)
    rules = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in verdict["rules"].items())
    lines = [f"verdict    {verdict['sentence']}{f' ({found})' if found else ''}", f"rules      {rules}"]
    lines += [f"note       {text}" for text in (verdict["provisional"], verdict["stale"]) if text]
    return "\n".join([*lines, f"report     {done.url}"])


def _shares(counts: Mapping[str, int], total: int) -> str:
    """Counts with their shares, most first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,} ({count / total:.1%})" for name, count in ranked) or "none"
