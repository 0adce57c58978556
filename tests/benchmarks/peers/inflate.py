"""The floor: every object read and inflated with isal, and nothing done with the bytes. Takes the same arguments; there is one task."""

from __future__ import annotations

import sys

from isal import igzip

from tests.benchmarks.peers.layout import arguments

_CHUNK = 1 << 20


def main() -> int:
    """Inflate all objects."""
    _, day, _ = arguments()
    for path in day.objects:
        with igzip.open(path) as lines:
            while lines.read(_CHUNK):
                pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
