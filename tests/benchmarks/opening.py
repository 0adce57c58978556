"""How long a browser takes to open the report of a large day: `python -m tests.benchmarks.opening`.

The day has 10,000 findings and 500 subnets. Printed are the page's size, the seconds to make it, and of several loads in headless Chromium
the seconds until its load event and until the table of findings can be read.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from flowlog_udfs.report.page import render

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from report_documents import large

LOADS = 7
READY = "document.querySelectorAll('#t-findings tbody tr').length === 100"


def main() -> int:
    """Make the page, open it, print the median and the longest load."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("no chromium on this machine; Debian's package chromium has it", file=sys.stderr)
        return 1
    document = large()
    began = time.monotonic()
    text = render(document)
    made = time.monotonic() - began
    counts = f"{len(document['findings']):,} findings, {len(document['subnets']):,} subnets"
    print(f"report of {counts}: {len(text.encode()) / 1e6:.2f} MB, made in {made:.2f} s")
    with tempfile.TemporaryDirectory(prefix="flowlog-opening-") as scratch, sync_playwright() as playwright:
        path = Path(scratch, "report.html")
        path.write_text(text, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        loads = []
        for _ in range(LOADS):
            page = browser.new_page()
            began = time.monotonic()
            page.goto(path.as_uri())
            page.wait_for_function(READY)
            ready = time.monotonic() - began
            loads.append((page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart") / 1000, ready))
            page.close()
        version = browser.version
        browser.close()
    for name, seconds in zip(("load event", "findings readable"), zip(*loads, strict=True), strict=True):
        print(f"{name:>18}: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s of {LOADS} loads in Chromium {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
