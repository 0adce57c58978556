"""A day too large for a worker's memory: `python -m tests.benchmarks.scale`.

A day of 30 million records is put together from samples of 3 million with seeds of their own, and run to its totals. Their networks have
the same addresses, so that the ends of a connection do not find each other: it has 20 times the connections of a sample, not 10 times.
Printed are CPU seconds of the whole process tree and the peak memory of the largest worker, of the JVM and of the driver, beside those of
one sample: a worker's memory must not grow with the day. Fails when a worker passes `WORKER_BYTES`. (Spark's own limit of a worker is of
address space, of which Arrow's allocator reserves far more than it uses.)
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from flowlog_udfs.sample import SampleRequest, make_sample
from tests.benchmarks.days import DAY, OBJECTS
from tests.benchmarks.engines import ON_SPARK, ROOT
from tests.benchmarks.measure import Cost, run_and_measure

PART_RECORDS = 3_000_000
WORKER_BYTES = 2 << 30


def main() -> int:
    """Make the days, run the small one and the large one, compare."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=10, help=f"how many times {PART_RECORDS:,} records the day has (default: %(default)s)")
    parser.add_argument("--logs", type=Path, help="folder that keeps the sample logs for the next time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowlog-scale-") as scratch:
        logs = given.logs or Path(scratch, "logs")
        costs = {parts: _run(_day(logs, parts), Path(scratch, "tables")) for parts in (1, given.parts)}
    few, many = costs[1], costs[given.parts]
    print(f"CPU for {given.parts} times the records: {many.cpu_seconds / few.cpu_seconds:.2f} times, start-up included")
    worst = max(cost.worker_bytes for cost in costs.values())
    print(f"largest worker: {worst / 2**20:,.0f} MiB of {WORKER_BYTES / 2**20:,.0f} allowed")
    return int(worst > WORKER_BYTES)


def _day(logs: Path, parts: int) -> Path:
    """The objects of so many samples in one tree; made once."""
    whole = logs / f"{parts}-parts"
    if not (whole / "done").exists():
        for seed in range(1, parts + 1):
            part = logs / f"part-{seed}"
            profile = {"objects": OBJECTS, "profile": "bench", "fields": "announcement", "file_format": "text", "streams": False}
            make_sample(SampleRequest(str(part), DAY, records=PART_RECORDS, seed=seed, **profile))
            for source in sorted((part / "AWSLogs").rglob("*.log.gz")):
                # Samples may have given objects of one hour one name: it ends in a hash, which begins with the seed here.
                before, _, ending = source.name.rpartition("_")
                name = f"{before}_{seed:02x}{ending[2:]}"
                target = whole / source.relative_to(part).with_name(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(source, target)
            shutil.rmtree(part)
            print(f"part {seed} of {parts} made", flush=True)
        (whole / "done").touch()
    return whole


def _run(source: Path, warehouse: Path) -> Cost:
    shutil.rmtree(warehouse, ignore_errors=True)
    options = ["--source", source, "--warehouse", warehouse, "--day", DAY, "--until", "total_subnet_bytes"]
    cost = run_and_measure([*ON_SPARK, "jobs/run_day.py", *map(str, options)], ROOT)
    print(f"{source.name}: {cost}", flush=True)
    return cost


if __name__ == "__main__":
    sys.exit(main())
