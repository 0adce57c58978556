"""What a run says: lines for a person, its summary on standard output and the rest on standard error, or for a program one JSON object to a
line and nothing else.

A run is known by its id, which its Delta commits carry too (`flowlog.run_id`). A message stays one line, whatever it quotes.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Mapping
from datetime import date, datetime, timezone
from typing import Any

from flowlog_udfs.answers import trace, without_answers
from flowlog_udfs.errors import FlowlogError, StorageError, one_line

LOG_FORMATS = ("text", "json")


class RunLog:
    """The log of one run, whose id is drawn when it begins. It reads the clock: only `main` has one."""

    def __init__(self, log_format: str = LOG_FORMATS[0]) -> None:
        self.run_id = uuid.uuid4().hex
        self._as_json = log_format == "json"

    def say(self, event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Tell people and programs. Of `fields` (day, step, counts, seconds, status) those that are None are left out."""
        if self._as_json:
            self.note(event, message, level=level, **fields)
        else:
            print(f"flowlog: {one_line(message)}", file=sys.stderr, flush=True)

    def note(self, event: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Tell programs what a person sees in the summary, or needs not."""
        if not self._as_json:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = {"time": now, "level": level, "run_id": self.run_id, "event": event, "message": one_line(message)}
        print(json.dumps(told | {k: v for k, v in fields.items() if v is not None}, default=_plain), file=sys.stderr, flush=True)

    def show(self, summary: str, **fields: Any) -> None:
        """What was done, in lines for people, on standard output; programs get each as an event."""
        if not self._as_json:
            print(summary, flush=True)
            return
        for line in summary.splitlines():
            if line.startswith("warning"):
                self.note("warning", line.removeprefix("warning").strip(), level="warning", **fields)
            else:
                self.note("summary", line, **fields)

    def failed(self, error: Exception, *, day: date | None = None, step: str | None = None, counts: Mapping[str, Any] | None = None) -> int:
        """Say what went wrong in one line, and give its exit status."""
        # Here, because the arguments of a command line are read, and its help is shown, without an engine.
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        text = without_answers(str(error))
        status = error.exit_status if isinstance(error, FlowlogError) else StorageError.exit_status
        told: dict[str, Any] = {"level": "error", "day": day, "step": step, "counts": counts or None, "status": status}
        if isinstance(error, FlowlogError):
            if error.summary:
                self.show(error.summary, day=day, step=step)
            self.say("failed", text, **told)
        elif isinstance(error, PySparkException | Py4JError):
            why = _reason(text) or type(error).__name__
            own = re.match(rf"{re.escape(FlowlogError.__module__)}\.\w+: ", why)
            self.say("failed", why[own.end() :] if own else f"the engine failed: {why}", **told)
        elif isinstance(error, OSError):
            self.say("failed", f"the storage failed: {' '.join(text.split())}", **told)
        else:
            # Whatever is left is a fault of flowlog or its engine: Python's own status for it is 1, which here means wrong use.
            self.note("failed", f"{type(error).__name__}: {text}", **told, traceback=trace(error))
            if not self._as_json:
                print(trace(error), end="", file=sys.stderr, flush=True)
        return status


def _plain(value: object) -> str:
    return str(value)


def _reason(message: str) -> str:
    """One line of an engine's message: the error that a Python worker raised, if there is one, else what Spark says of it, of the causes in
    a stack of Java's the first.
    """
    lines = [line.strip() for line in message.splitlines()]
    raised = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(?:Error|Exception): ", line)]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (raised[-1:] or causes or [*filter(None, lines)] or [""])[0]
