"""Files that a person or another program wrote, TOML or JSON, to plain values; whatever is wrong with a file as a whole is said here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowlog_udfs.errors import UsageError

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable

    import tomllib
else:
    from importlib.abc import Traversable

    import tomli as tomllib

LARGEST_TOML, LARGEST_JSON = 16 << 20, 1 << 30
"""A larger file is not read: settings are a few kilobytes, an inventory of 100,000 interfaces is 200 MB."""


def read_toml(path: Path | Traversable) -> dict[str, Any]:
    """The tables of a TOML file; raises `UsageError` naming the file."""
    return _read(path, LARGEST_TOML, "TOML", tomllib.loads)  # type: ignore[no-any-return]


def read_json(path: Path | Traversable, remedy: str) -> Any:
    """The values of a JSON file; raises `UsageError` naming the file and what to do, in words `remedy`."""
    return _read(path, LARGEST_JSON, "JSON", json.loads, f"; {remedy}")


def _read(path: Path | Traversable, largest: int, kind: str, parse: Callable[[str], Any], remedy: str = "") -> Any:
    try:
        with path.open("rb") as stream:
            content = stream.read(largest + 1)
        if len(content) > largest:
            raise UsageError(f"{path}: is larger than {largest:,} bytes; give a smaller file")
        # Some editors put a byte order mark before the text.
        return parse(content.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not valid {kind}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid {kind}: {error}{remedy}") from error
