"""What a command shows: tables and lines for a person, or one JSON document for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from flowlog_udfs.errors import one_line

WIDTH = 160
"""Of what goes to a file or a pipe."""
UNLIMITED = 1_000


class Output:
    """Standard output, in one of two forms."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
        self.aside = Console(stderr=True, highlight=False, soft_wrap=True)
        """For what is not the result."""

    def show(self, document: Any, view: Callable[[Console], None]) -> None:
        """Show a result: the document as JSON, or what `view` prints."""
        if self.as_json:
            json.dump(document, sys.stdout, indent=2, default=lambda time: time.isoformat())
            print()
        else:
            view(self.console)


def print_table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[object]], *, wrapped: Sequence[str] = ()) -> None:
    """Print rows below the names of their columns; numbers stand to the right, and only texts in `wrapped` are broken into lines.

    What comes from a log is never read as markup, nor by the terminal as a command. Ids stay whole, be the table wider than the terminal.
    """
    kept = list(rows)
    made = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        is_number = all(isinstance(row[place], int) for row in kept)
        made.add_column(name, justify="right" if is_number else "left", no_wrap=name not in wrapped, overflow="fold")
    for row in kept:
        made.add_row(*(Text(f"{value:,}" if isinstance(value, int) else one_line(str(value))) for value in row))
    width = console.width
    console.width = max(width, Measurement.get(console, console.options.update(width=UNLIMITED), made).minimum)
    console.print(made)
    console.width = width


def megabytes(size: int) -> str:
    """A size in bytes as a person reads it."""
    return f"{size / 1e6:,.1f} MB"
