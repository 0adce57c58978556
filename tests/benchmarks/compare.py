"""flowlog beside its peers: `python -m tests.benchmarks.compare`, which writes `tests/benchmarks/RESULTS.md`.

Days of sample logs are made, and each engine does each task of `tests/benchmarks/peers` on each day as a process of its own, one after the
other, all engines in every round. Taken are the CPU seconds of the whole process tree, wall time and peak memory. Start-up is what a tiny
day costs, and is taken out and shown apart. In the first round the tables of all engines are compared; where they differ otherwise than
`agreement.py` explains, the page ends before that day and the status is 1.

Quick by default: a million records in one format. All that the page can hold:
`--records 1 3 10 --formats announcement v5 parquet`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from tests.benchmarks.agreement import compare
from tests.benchmarks.days import DAY, TINY_RECORDS, SampleDay, sample_day
from tests.benchmarks.engines import ENGINES, ROOT, Engine, python_of, versions
from tests.benchmarks.figures import FORMAT_NAMES, Figure, Section, page
from tests.benchmarks.machine import cores, load, machine
from tests.benchmarks.measure import Cost, run_and_measure

RESULTS = Path(__file__).parent / "RESULTS.md"
MIDNIGHT = int(datetime(DAY.year, DAY.month, DAY.day, tzinfo=timezone.utc).timestamp())
FAIR_ROUNDS = 3
_ROUGH = " These figures are rough: few rounds or a busy machine move a start-up of 20 s by more than what some tasks take."
Runs = dict[tuple[str, str], list[Cost]]
"""Costs by engine and task."""


@dataclass
class Comparison:
    """One comparison: what was asked for, and what has been found so far."""

    engines: tuple[Engine, ...]
    tasks: tuple[str, ...]
    pythons: Mapping[str, str]
    scratch: Path
    faults: list[str] = field(default_factory=list)

    def section(self, form: str, tiny: SampleDay, whole: SampleDay, rounds: int, smallest: bool) -> Section:
        """Run all engines on a tiny and a whole day, every round in the same order."""
        runs: dict[str, Runs] = {"tiny": defaultdict(list), "whole": defaultdict(list)}
        agreed: list[str] = []
        reasons = self._left_out(form, smallest)
        for number in range(rounds):
            for task in (*self.tasks, "floor"):
                here = [one for one in self.engines if task in one.tasks(self.tasks) and (one.name, task) not in reasons]
                for engine in (one for one in here if not (one.once and number)):
                    self._run(engine, task, number, {"tiny": tiny, "whole": whole}, runs)
                if not number and task != "floor":
                    agreed += self._compare(here, task, whole)
                for engine in here:
                    # What another task is the same command with, is still needed.
                    if task not in engine.same_as:
                        shutil.rmtree(self._output(engine, task), ignore_errors=True)
        beyond = whole.records - tiny.records
        figures = {key: Figure.of(runs["tiny"][key], costs, beyond) for key, costs in runs["whole"].items()}
        return Section(form, whole.records, whole.size_bytes, figures, agreed, reasons)

    def _left_out(self, form: str, smallest: bool) -> dict[tuple[str, str], str]:
        reasons = {}
        for engine in self.engines:
            if form == "parquet" and not engine.reads_parquet:
                why = "nothing to inflate" if engine.floor else "cannot read this format"
            elif engine.once and not smallest:
                why = "too slow: only the smallest day"
            else:
                continue
            reasons |= {(engine.name, task): why for task in engine.tasks(self.tasks)}
        return reasons

    def _output(self, engine: Engine, task: str) -> Path:
        return self.scratch / f"{engine.name}-{engine.same_as.get(task, task)}"

    def _run(self, engine: Engine, task: str, number: int, days: dict[str, SampleDay], runs: dict[str, Runs]) -> None:
        """Run the tiny and the whole day, unless a task that is the same command was run in this round."""
        same = engine.same_as.get(task, task)
        output = self._output(engine, task)
        for size, day in days.items():
            alike = [runs[size].get((engine.name, other), []) for other in _alike(engine, same)]
            if done := [costs[number] for costs in alike if len(costs) > number]:
                runs[size][engine.name, task].append(done[0])
                continue
            shutil.rmtree(output, ignore_errors=True)
            cost = run_and_measure(engine.command(same, day.source, output, DAY, self.pythons), ROOT)
            runs[size][engine.name, task].append(cost)
            print(f"round {number + 1}  {task}  {engine.name:<16} {day.records:>11,} records  {cost}", flush=True)

    def _compare(self, engines: Sequence[Engine], task: str, day: SampleDay) -> list[str]:
        """Compare the tables of all engines with the first one's."""
        if not engines:
            return []
        first, *others = engines
        mine, said = first.tables(task, self._output(first, task)), list[str]()
        for engine in others:
            found = compare(task, mine, engine.tables(task, self._output(engine, task)), day.columns, MIDNIGHT)
            self.faults += (faults := [f"{engine.name} and {first.name} differ in {task}: {fault}" for fault in found.faults])
            print("\n".join(faults) or f"{engine.name} gives the same as {first.name} in {task}: {'; '.join(found.said)}", flush=True)
            said.append(f"{task}: {'; '.join(found.said)}")
        return list(dict.fromkeys(said))


def _alike(engine: Engine, task: str) -> list[str]:
    """The tasks that are one command with a task, itself included."""
    return [task, *(name for name, same in engine.same_as.items() if same == task)]


def main() -> int:
    """Make the days, run all engines, compare their tables, write the page."""
    given = _arguments()
    engines = tuple(engine for engine in ENGINES if engine.name in given.peers)
    sizes = sorted(round(millions * 1e6) for millions in given.records)
    rounds = [given.rounds[min(number, len(given.rounds) - 1)] for number in range(len(sizes))]
    tasks = [*given.tasks, *(["floor"] if any(engine.floor for engine in engines) else [])]
    with tempfile.TemporaryDirectory(prefix="flowlog-compare-") as scratch:
        pythons = {name: python_of(name) for name in {engine.environment for engine in engines}}
        comparison = Comparison(engines, tuple(given.tasks), pythons, Path(scratch, "output"))
        logs = given.logs or Path(scratch, "logs")
        told = versions(engines, pythons)
        preface, notes, sections = _preface(told, min(rounds), engines[0].name), _notes(engines), []
        for form in given.formats:
            tiny = sample_day(logs, TINY_RECORDS, form)
            for size, often in zip(sizes, rounds, strict=True):
                print(f"{size:,} records, {FORMAT_NAMES[form]}", flush=True)
                sections.append(comparison.section(form, tiny, sample_day(logs, size, form), often, size == sizes[0]))
                if comparison.faults:
                    print("\n".join(["the engines do not give the same numbers", *comparison.faults]), file=sys.stderr)
                    return 1
                # Hours of measuring are not lost with the day that is measured next.
                given.results.write_text(page(preface, sections, [engine.name for engine in engines], tasks, notes), encoding="utf-8")
                print(f"written: {given.results}", flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    names = [engine.name for engine in ENGINES]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=float, nargs="+", default=[1], metavar="MILLIONS", help="sizes of the days (default: 1)")
    parser.add_argument("--formats", nargs="+", choices=list(FORMAT_NAMES), default=["announcement"])
    parser.add_argument(
        "--rounds", type=int, nargs="+", default=[3], help="how often each engine does each task: for each size, from the smallest"
    )
    parser.add_argument("--peers", nargs="+", choices=names, default=names, help="the engines (default: all)")
    parser.add_argument("--tasks", nargs="+", choices=("a", "b", "c", "d"), default=["a", "b", "c", "d"])
    parser.add_argument("--logs", type=Path, help="folder that keeps the sample logs for the next time")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the page to write (default: RESULTS.md beside this module)")
    return parser.parse_args()


def _preface(told: dict[str, str], fewest: int, first: str) -> list[str]:
    day, busy = datetime.now(timezone.utc).date(), load()
    return [
        "Written by `make bench`; not edited by hand. `tests/benchmarks/peers/__init__.py` says what each task computes.",
        f"{day}, {machine()}, load {busy:.1f} before the first run. {', '.join(f'{name} {version}' for name, version in told.items())}.",
        "Medians of as many runs as are told, engines in turn, each run a process of its own. CPU is that of the whole process tree. CPU "
        "and wall time are those beyond start-up, which is what a day of 24,000 records costs and stands apart; where a day costs no more "
        "than that, it is said. Peak memory is the most that all processes held at once, what they share counted for each; beside it, what "
        f"the largest Python worker of a JVM held. Ratios below 1 are cheaper than {first}."
        + (_ROUGH if fewest < FAIR_ROUNDS or busy > cores() else ""),
        "In the first round all tables are compared: a by a hash over all columns of its rows, b row by row, c connection by connection "
        "(ends, initiator, bytes and packets each way, records, times). Two differences are right, and counted below: where interfaces "
        "disagree at midnight on what is today's, flowlog keeps the sender's count unless another saw over 2 packets and 1 % more, and the "
        "peers take the largest; where no flags tell the initiator, flowlog may know by other means or not say, and the peers go by ports.",
    ]


def _notes(engines: tuple[Engine, ...]) -> list[str]:
    names = {engine.name for engine in engines}
    notes = {
        "flowlog": "flowlog's b and d are one command: totals of subnets rest on who owns each end. Its connections and totals say more "
        "than the tasks ask for, and every line and byte is accounted for. docs/scale.md says where its time goes.",
        "flowlogs-reader": "flowlogs-reader is pure Python: one round on the smallest day of each text format. It cannot read Parquet flow "
        "logs, whose encoding it does not know.",
    }
    return [text for name, text in notes.items() if name in names]


if __name__ == "__main__":
    sys.exit(main())
