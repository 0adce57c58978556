"""The errors flowlog raises, each with the exit status its jobs end with. Faults in the logs are rows, never exceptions."""

from __future__ import annotations


def one_line(text: str) -> str:
    r"""Text from outside, a key or a value of a log, as a line of a terminal or of a log may hold it: what does not print as an escape.

    >>> print(one_line("fl-\x1b[31m\u202e\n"))
    fl-\x1b[31m\u202e\n
    """
    return text if text.isprintable() else "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


class FlowlogError(Exception):
    """Base of all errors that flowlog raises on purpose; the message says, in one line, what is wrong and what to do.

    `summary` has lines that a person should see before it: what a step did until it failed.
    """

    exit_status = 3

    def __init__(self, message: str = "", summary: str = "") -> None:
        super().__init__(message)
        self.summary = summary

    def __str__(self) -> str:
        return one_line(super().__str__().strip())


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


class GoneError(ObjectError):
    """There is no such object, or no longer."""
