"""What a command costs with all processes that it starts: CPU, wall time, and the peak memory of each kind of process. Linux only."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLED_EVERY = 0.1
"""Seconds; what a process does after its last sample is not counted."""


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the whole tree, wall seconds, and the largest resident set of any Python worker, the JVM, and the driver's Python.

    `peak_bytes` is the most that all processes held at once; what they share counts for each.
    """

    cpu_seconds: float
    wall_seconds: float
    worker_bytes: int
    jvm_bytes: int
    driver_bytes: int
    peak_bytes: int

    def __str__(self) -> str:
        worker, jvm, driver = (size / 2**20 for size in (self.worker_bytes, self.jvm_bytes, self.driver_bytes))
        return f"{self.cpu_seconds:6.1f} CPU-s {self.wall_seconds:6.1f} s   worker {worker:.0f}, JVM {jvm:.0f}, driver {driver:.0f} MiB"


def run_and_measure(command: list[str], folder: Path) -> Cost:
    """Run a command to its end; raises `RuntimeError` with the end of its output when it fails."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        watch = _Watch(child.pid)
        _, ended, used = os.wait4(child.pid, 0)
        child.returncode = status = os.waitstatus_to_exitcode(ended)
        wall = time.monotonic() - began
        watch.stop()
        if status != 0:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)}: status {status}\n{output.read().decode(errors='replace')[-4000:]}")
    # Of a single process the system tells to the end, and sampling misses its last moments.
    cpu = max(watch.cpu_seconds, used.ru_utime + used.ru_stime)
    return Cost(cpu, wall, watch.worker, watch.jvm, watch.driver, watch.peak)


class _Watch(threading.Thread):
    """Watches a process tree until it is stopped: the CPU time of each process and its resident memory.

    Sampling sees what waiting does not: nobody waits for Python workers that the JVM drops at its end, and their time would be lost.
    """

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root, self._stopped = root, threading.Event()
        self._seconds: dict[psutil.Process, float] = {}
        self.worker = self.jvm = self.driver = self.peak = 0
        self.start()

    @property
    def cpu_seconds(self) -> float:
        return sum(self._seconds.values())

    def run(self) -> None:
        while not self._stopped.wait(SAMPLED_EVERY):
            try:
                root = psutil.Process(self._root)
                tree = [root, *root.children(recursive=True)]
            except psutil.Error:
                continue
            held = 0
            for process in tree:
                try:
                    held += self._see(process)
                    self.peak = max(self.peak, _high_water(process.pid))
                except (psutil.Error, OSError):
                    continue
            self.peak = max(self.peak, held)

    def _see(self, process: psutil.Process) -> int:
        with process.oneshot():
            words, size, times = process.cmdline(), process.memory_info().rss, process.cpu_times()
        self._seconds[process] = times.user + times.system
        if "pyspark.daemon" in words:
            self.worker = max(self.worker, size)
        elif words and words[0].endswith("java"):
            self.jvm = max(self.jvm, size)
        elif words and "python" in words[0]:
            self.driver = max(self.driver, size)
        return size

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _high_water(pid: int) -> int:
    """The largest resident set that a process has had, between samples too."""
    lines = Path("/proc", str(pid), "status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
