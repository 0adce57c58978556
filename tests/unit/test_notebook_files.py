"""The notebooks as they lie in git: without outputs, without functions of their own, and explained."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text(encoding="utf-8"))


def sources(notebook: dict[str, Any], kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_there_are_three_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["01_first_look", "02_connections_and_nat", "03_a_compliance_day"]


def test_nothing_of_an_execution_is_kept(notebook: dict[str, Any]):
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


def test_cells_call_the_library_and_define_nothing(notebook: dict[str, Any]):
    """What is worth a function is worth a test, so it belongs to the library."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for source in sources(notebook, "code"):
        assert [node for node in ast.walk(ast.parse(source)) if isinstance(node, definitions)] == []


def test_the_first_cell_says_what_it_is_and_the_second_has_all_parameters(notebook: dict[str, Any]):
    first, second = notebook["cells"][:2]
    assert first["cell_type"] == "markdown"
    title, description = re.fullmatch(r"# ([^\n]+)\n\n(.+)", "".join(first["source"]), re.S).groups()
    assert title and len(description.split()) >= 30
    assert second["metadata"]["tags"] == ["parameters"]
    assert not any("environ" in source.replace("environ.setdefault", "") for source in sources(notebook, "code")[1:])


def test_code_is_explained(notebook: dict[str, Any]):
    """No more than three cells of code follow each other without a word."""
    kinds = "".join(cell["cell_type"][0] for cell in notebook["cells"])
    assert "cccc" not in kinds


def test_notebooks_name_each_other_rightly(notebook: dict[str, Any]):
    named = {name for source in sources(notebook, "markdown") for name in re.findall(r"`([\w]+\.ipynb)`", source)}
    assert named <= {path.name for path in NOTEBOOKS}
