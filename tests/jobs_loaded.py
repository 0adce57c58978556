"""Jobs loaded from their files, as `spark-submit` does, to be run in this process."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

JOBS = Path(__file__).parents[1] / "jobs"


def job_main(name: str) -> Callable[..., int]:
    """`main` of a job."""
    spec = importlib.util.spec_from_file_location(name, JOBS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main
