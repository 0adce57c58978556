"""The project's own files agree with each other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flowlog_udfs.config import Config, load_config
from flowlog_udfs.documents import tomllib

ROOT = Path(__file__).parents[2]
FILE = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = FILE["project"]
PINNED = (ROOT / "constraints.txt").read_text()
PEERS, AUDIT, SAIL, AIRFLOW, SPARKS = (
    (ROOT / ".ci" / f"{name}.txt").read_text() for name in ("peers", "audit", "sail", "airflow", "spark_versions")
)


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"\.PHONY: (.*)", makefile)[1].split())
    listed = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} == targets


def test_every_dependency_is_pinned():
    extras = (PROJECT["optional-dependencies"][extra] for extra in ("dev", "notebooks"))
    wanted = [*PROJECT["dependencies"], *(one for extra in extras for one in extra)]
    groups = FILE["dependency-groups"]
    for asked, locked in ((wanted, PINNED), (groups["peers"], PEERS), (groups["audit"], AUDIT)):
        names = {re.match(r"[A-Za-z0-9._-]+", one)[0].lower().replace("_", "-") for one in asked}
        assert names <= {name.lower() for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", locked, re.M)}


@pytest.mark.parametrize(
    "locked",
    [PINNED, PEERS, AUDIT, SAIL, AIRFLOW, SPARKS],
    ids=["constraints", "peers", "audit", "sail", "airflow", "spark_versions"],
)
def test_every_pin_has_hashes_and_no_address(locked):
    blocks = re.split(r"\n(?=[a-zA-Z])", re.sub(r"^#.*\n", "", locked.strip(), flags=re.M))
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in locked


def test_whatever_installs_compares_hashes():
    scripts = [path for path in (ROOT / ".ci").iterdir() if path.is_file() and path.suffix != ".txt"]
    installs = {path.name: re.findall(r"pip\" install(.*?[^\\])\n|/pip install(.*?)\n", path.read_text(), re.S) for path in scripts}
    found = {name: ["".join(one) for one in lines] for name, lines in installs.items() if lines}
    assert {"setup", "peers", "audit_tools", "sail", "airflow", "spark_versions"} <= set(found)
    # The checkout itself has no hash to be compared with; uv only writes the locks.
    without = {(name, line) for name, lines in found.items() for line in lines if "--require-hashes" not in line}
    assert {name for name, _ in without} <= {"setup", "lock"}
    assert all(" -e . " in line for name, line in without if name == "setup")


def test_every_jar_has_its_hash():
    pins = (ROOT / ".ci" / "jars.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  [\w.-]+_[\w.-]+\.jar", line) for line in pins)
    names = " ".join(pins)
    assert all(name in names for name in ("delta-spark_4.2_2.13", "delta-spark_4.1_2.13", "delta-spark_4.0_2.13", "hadoop-aws", "sts"))


def test_importing_starts_nothing():
    code = (
        "import sys, flowlog_udfs, flowlog_udfs.cli, flowlog_udfs.ingest\n"
        "from pyspark.sql import SparkSession\n"
        "assert SparkSession.getActiveSession() is None\n"
        "assert 'boto3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_example_configuration_states_the_defaults():
    assert load_config(str(ROOT / "conf" / "flowlog.toml")) == Config()


@pytest.mark.parametrize("name", ["spark-local.conf", "spark-defaults.conf"])
def test_spark_settings_are_sparks(name):
    lines = (ROOT / "conf" / name).read_text().splitlines()
    settings = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    assert settings
    assert all(len(setting) == 2 and setting[0].startswith("spark.") for setting in settings)


def test_the_library_uses_only_api_that_spark_connect_has():
    lacking = re.compile(r"sparkContext|\.rdd\b|_jvm|_jsc")
    found = [path.name for path in (ROOT / "flowlog_udfs").rglob("*.py") if lacking.search(path.read_text())]
    assert found == []


def test_no_thread_of_arrow_holds_memory_of_python():
    # Such a thread, late by a moment, makes the process end with status 134 (seen in one run of ten on busy cores).
    threaded = re.compile(r"pq\.read_table|pyarrow\.dataset|to_pyarrow_")
    found = [path.name for path in (ROOT / "flowlog_udfs").rglob("*.py") if threaded.search(re.sub(r"#.*", "", path.read_text()))]
    assert found == []


def test_versions_agree():
    import flowlog_udfs

    assert PROJECT["version"] == flowlog_udfs.__version__
