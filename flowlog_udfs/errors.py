"""The errors flowlog raises, each with the exit status its jobs end with. Faults in the logs are rows, never exceptions."""

from __future__ import annotations


class FlowlogError(Exception):
    """Base of all errors that flowlog raises on purpose; the message says what is wrong and what to do."""

    exit_status = 3


class UsageError(FlowlogError):
    """A wrong argument, configuration value or log format: status 1."""

    exit_status = 1


class DayLimitError(FlowlogError):
    """The day's logs break a stated limit, or there are none: status 2."""

    exit_status = 2


class ReconciliationError(FlowlogError):
    """Counts that must agree do not, so nothing was published: status 2."""

    exit_status = 2


class StorageError(FlowlogError):
    """A folder, bucket or table cannot be read or written: status 3."""

    exit_status = 3


class LostRaceError(StorageError):
    """Another run committed to the table first."""


class ObjectError(FlowlogError):
    """One flow log object cannot be read whole; it becomes a row of table `objects`, not a failure of the run."""
