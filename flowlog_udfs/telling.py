"""How a run is told to those who operate it: its log while it works, and its metrics at its end, be it a good one or not."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timezone
from datetime import time as time_of_day

from flowlog_udfs.arguments import Parser, add_telling
from flowlog_udfs.config import CostConfig
from flowlog_udfs.errors import FlowlogError, StorageError
from flowlog_udfs.metrics import Measured, write_metrics
from flowlog_udfs.run_log import RunLog
from flowlog_udfs.storage import open_storage
from flowlog_udfs.tables import Warehouse


class Telling:
    """The log and the measures of one run."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.log = RunLog(given.log_format)
        self.measured = Measured()
        self._given = given
        self._days: Sequence[date] = ()
        self._cost = CostConfig()
        self._warehouse = _url(given.warehouse or "")
        self._began = time.monotonic()

    @classmethod
    def of(cls, argv: Sequence[str] | None) -> Telling:
        """As a command line asks for it, so that what is wrong with the rest of that line is told in the way that it asks for."""
        own = Parser(add_help=False, allow_abbrev=False)
        add_telling(own)
        own.add_argument("--warehouse")
        try:
            return cls(own.parse_known_args(argv)[0])
        except FlowlogError:
            return cls(own.parse_args([]))

    def begin(self, warehouse: Warehouse, days: Sequence[date], cost: CostConfig) -> Warehouse:
        """The warehouse that a run is about to change, its commits marked with the run's id."""
        self._days, self._cost, self._warehouse = days, cost, warehouse.url
        asked = f"{days[0]} to {days[-1]}" if len(days) > 1 else "".join(map(str, days)) or "all days"
        self.log.note("run_started", asked, warehouse=self._warehouse)
        return replace(warehouse, run_id=self.log.run_id)

    def end(self, status: int) -> int:
        """Tell how the run ended; the status is 3 where its metrics cannot be written."""
        now, seconds = datetime.now(timezone.utc), time.monotonic() - self._began
        self.measured.add({"exit_status": status, "run_timestamp_seconds": now.timestamp(), "run_seconds": seconds})
        day = max(self._days, default=None)
        if day:
            self.measured.add({"day_timestamp_seconds": datetime.combine(day, time_of_day(), timezone.utc).timestamp()})
        if self._cost.vcpus:
            held = self._cost.vcpus * seconds
            self.measured.add({"vcpu_seconds": held})
            if self._cost.vcpu_hour_price:
                self.measured.add({"estimated_cost": held / 3600 * self._cost.vcpu_hour_price})
        if self._given.metrics:
            try:
                write_metrics(
                    *(self._given.metrics, self._given.metrics_format, self.measured),
                    warehouse=self._warehouse,
                    run_id=self.log.run_id,
                    day=str(day) if day else None,
                    now=now,
                )
            except StorageError as error:
                status = max(status, self.log.failed(error))
        level, counts = "error" if status else "info", self.measured.counts()
        self.log.note("run_done", f"status {status}", level=level, status=status, seconds=round(seconds, 3), counts=counts)
        return status


def _url(warehouse: str) -> str:
    """A warehouse as it is told whether or not its run can begin; nothing for what is none, which may hold a secret."""
    try:
        storage, prefix = open_storage(warehouse)
    except FlowlogError:
        return ""
    return storage.url(prefix)
