"""The command `flowlog`: what the jobs and the library do, for a person at a terminal. It holds no logic of its own.

Each module is one of its commands: `HELP` and `EXAMPLE`, the arguments, and `execute`, which returns the exit status.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import flowlog_udfs
from flowlog_udfs.arguments import Parser
from flowlog_udfs.command import completion, ddl, demo, formats, inspect, maintain, report, run, sample, sign_off
from flowlog_udfs.command.output import Output
from flowlog_udfs.errors import FlowlogError, StorageError, UsageError

INTERRUPTED = 130
"""What a shell gives a command that was stopped by SIGINT."""


class Command(Protocol):
    """A module of this package."""

    HELP: str
    EXAMPLE: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace, Output], int]


COMMANDS = {
    name: cast(Command, module)
    for name, module in {
        "demo": demo,
        "inspect": inspect,
        "formats": formats,
        "run": run,
        "report": report,
        "maintain": maintain,
        "sign-off": sign_off,
        "ddl": ddl,
        "sample": sample,
        "completion": completion,
    }.items()
}


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the command."""
    top = Parser(prog="flowlog", description="Batch analytics over Amazon VPC Flow Logs.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"flowlog {flowlog_udfs.__version__}")
    chosen = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        one = chosen.add_parser(
            name,
            help=command.HELP,
            description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(one)
        one.add_argument("--json", action="store_true", help="the result as JSON on standard output, everything else on standard error")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0 done, 1 wrong use, 2 the day breaks a limit or holds nothing, 3 storage or engine failure."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words:
            parser().print_help(sys.stderr)
            return UsageError.exit_status
        given = parser().parse_args(words)
        given.words = words[words.index(given.command) + 1 :]
        return COMMANDS[given.command].execute(given, Output(given.json))
    except FlowlogError as error:
        print(f"flowlog: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("flowlog: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; without this Python complains once more when it closes the stream.
        sys.stdout = None
        return StorageError.exit_status
