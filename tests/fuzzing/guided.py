"""Fuzzing that is led by which branches an input takes: the kernel against the reference, by atheris.

`make fuzz` runs it; the arguments are libFuzzer's. It comes upon what random mutations seldom meet, since it keeps what goes further than
the inputs before. The first byte of an input chooses the format.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Fuzz until a difference is found, or for as long as the arguments of libFuzzer say."""
    import atheris

    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    with atheris.instrument_imports(include=["flowlog_udfs"]):
        from fuzzing.mutations import FORMATS
        from fuzzing.test_lines import check
        from reference.lines import read_content

        from flowlog_udfs.formats import DEFAULT_FORMAT, GZIP_MAGIC, PARQUET_MAGIC

    def try_one(octets: bytes) -> None:
        log_format, is_planned, content = FORMATS[(octets[:1] or b"\0")[0] % len(FORMATS)], octets[:1] >= b"\x80", octets[1:] or b"\n"
        if not content.startswith((GZIP_MAGIC, PARQUET_MAGIC)):
            plan = log_format if is_planned else None
            check(content, plan, read_content(content, plan.names if plan else None, DEFAULT_FORMAT.names))

    atheris.Setup(arguments, try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
