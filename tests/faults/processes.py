"""A job under spark-submit that a test watches and kills."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import disturbed  # noqa: F401 - puts `running` on the path
import psutil
from running import ROOT, submission

DAY_IN_TWO_TASKS = Path(__file__).with_name("day_in_two_tasks.py")
VICTIMS = ("driver", "worker", "both")
QUIET = ("--conf", "spark.ui.showConsoleProgress=false")


@dataclass
class Job:
    """A running job, and the lines that it has said so far: spark-submit has both streams of Python in one."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def told(self) -> str:
        """All that it said."""
        return "\n".join(self.lines)

    def wait(self) -> int:
        """Its exit status, when it and all processes it started are gone."""
        status = self.process.wait(300)
        self._listener.join(60)
        return status

    def kill(self, victim: str) -> bool:
        """SIGKILL the driver (its JVM and the job's own process), all Python workers as soon as there are any, or both.

        Returns whether there was anything to kill.
        """
        chosen: list[psutil.Process] = []
        while not chosen:
            try:
                family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
            except psutil.NoSuchProcess:
                return False
            workers = [one for one in family if _is_worker(one)]
            chosen = {"driver": [one for one in family if one not in workers], "worker": workers, "both": family}[victim]
            if self.process.poll() is not None:
                return False
        for one in chosen:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        if victim != "worker":
            # Workers end by themselves when their driver is gone; a run that follows must not meet them.
            _, alive = psutil.wait_procs([one for one in family if one.pid != self.process.pid], timeout=60)
            assert alive == []
        return True

    def listen(self) -> None:
        """Take the lines down as they come."""

        def take() -> None:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))

        self._listener = threading.Thread(target=take, daemon=True)
        self._listener.start()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "pyspark.daemon" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


@contextmanager
def started(*arguments: object, job: object = DAY_IN_TWO_TASKS, spark_options: tuple[object, ...] = ()) -> Iterator[Job]:
    """A job that is running; it and its processes are gone at the end."""
    command, variables = submission(*arguments, job=job, spark_options=(*QUIET, *spark_options))
    process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    running = Job(process)
    running.listen()
    try:
        yield running
    finally:
        if process.poll() is None:
            running.kill("both")
        process.wait(60)
