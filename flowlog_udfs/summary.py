"""What a job did, in lines for a person at a terminal."""

from __future__ import annotations

from datetime import date

from flowlog_udfs.ingest import Ingested

SHOWN_FAILURES = 5


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
    lines += [f"warning    {row.key}: {row.error}" for row in ingested.failed[:SHOWN_FAILURES]]
    if len(ingested.failed) > SHOWN_FAILURES:
        lines.append(f"warning    … and {len(ingested.failed) - SHOWN_FAILURES:,} more objects; see table objects")
    for other, count in sorted(ingested.misfiled.items()):
        if other < day:
            lines.append(f"late       rows of {other}: {count:,}, filed later than its own run looks; run that day again to hold them")
        else:
            lines.append(f"warning    rows of {other}: {count:,}, filed before their day began")
    return "\n".join(lines)
