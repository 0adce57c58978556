"""`flowlog completion`: completion for a shell."""

from __future__ import annotations

import argparse

from flowlog_udfs.command.output import Output

HELP = "print what makes a shell complete this command"
EXAMPLE = 'eval "$(flowlog completion bash)"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def execute(given: argparse.Namespace, output: Output) -> int:
    """Print the script."""
    import shtab

    from flowlog_udfs.command import parser

    script = shtab.complete(parser(), shell=given.shell)
    output.show({"shell": given.shell, "script": script}, lambda console: print(script))
    return 0
