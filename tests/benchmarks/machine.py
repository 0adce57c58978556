"""What machine a benchmark ran on. Linux only."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def load() -> float:
    """How many processes wanted to run during the last five minutes: on a busy machine all takes longer, and more CPU seconds too."""
    return os.getloadavg()[1]


def machine() -> str:
    """Processor, cores that this process may use, memory, and kernel."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {cores()} cores, {memory:.0f} GiB of memory, Linux {platform.release()}"
