"""No code comes from data: what ruff's rules S cannot see of it, and which exceptions to them there are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = [path for folder in ("flowlog_udfs", "jobs") for path in sorted((ROOT / folder).rglob("*.py"))]
RUNS_CODE = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "execfile",
    "import_module",
    "run_path",
    "run_module",
    "system",
    "popen",
    "read_pickle",
}
HOLDS_CODE = {
    "pickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "code",
    "codeop",
    "runpy",
    "imp",
    "xml",
    "lxml",
    "yaml",
}
MAY = {("engines.py", "pickle"), ("engines.py", "cloudpickle"), ("completion.py", "shell")}
"""Sail's tasks run in this process, and what they unpickle was pickled there a moment before; shtab is told for which shell to write."""


def uses(path: Path) -> Iterator[str]:
    """Names of what could run code that stands in data."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (part for one in node.names for part in one.name.split(".") if part in HOLDS_CODE)
        elif isinstance(node, ast.ImportFrom):
            named = [*(node.module or "").split("."), *(one.name for one in node.names)]
            yield from (part for part in named if part in HOLDS_CODE | RUNS_CODE)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in RUNS_CODE and ast.unparse(node.func) != "re.compile":
                yield name
            flags = {word.arg for word in node.keywords if not (isinstance(word.value, ast.Constant) and word.value.value is False)}
            yield from flags & {"shell", "allow_pickle"}


def test_nothing_runs_code_that_stands_in_data() -> None:
    assert {(path.name, name) for path in SHIPPED for name in uses(path)} == MAY


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pyspark import cloudpickle",
        "import xml.etree.ElementTree",
        "from os import system as run",
        "builtins.eval(text)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=wanted)",
        "numpy.load(path, allow_pickle=True)",
        "compile(text, '', 'exec')",
    ],
)
def test_the_search_finds(line: str, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(line)
    assert list(uses(tmp_path / "one.py")) != []


def test_exceptions_to_ruffs_rules_about_running_code_are_these() -> None:
    found = [(path.name, code) for path in SHIPPED for code in re.findall(r"noqa: (S[1367]0\d)", path.read_text(encoding="utf-8"))]
    # A command of the owner's and spark-submit, both without a shell; statements that are printed; markup that charts and page escape.
    kept = {("notices.py", "S603"), ("submission.py", "S603"), ("engines.py", "S301"), ("ddl.py", "S608")}
    assert set(found) == kept | {("page.py", "S704"), ("charts.py", "S704")}
