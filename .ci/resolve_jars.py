"""Resolve a set of JARs with Spark's own Ivy and put them beside Spark's: `resolve_jars.py delta|s3`.

On the class path of every session started from .venv they need no --packages, and no resolution at each start. Clusters bring their own.
Each is compared with its SHA-256 in jars.txt, a list as `sha256sum` writes it: a repository that serves other bytes is found out.
"""

import hashlib
import re
import shutil
import subprocess
import sys
from importlib.metadata import files, version
from pathlib import Path

import pyspark

SPARK_LINE = ".".join(pyspark.__version__.split(".")[:2])
# hadoop-aws must be of the Hadoop that Spark bundles, and its SDK of the line that hadoop-aws was built with.
HADOOP_AWS, AWS_SDK = {"4.0": ("3.4.1", "2.25.53"), "4.1": ("3.4.2", "2.29.52"), "4.2": ("3.5.0", "2.35.4")}[SPARK_LINE]
SETS = {
    "delta": [f"io.delta:delta-spark_{SPARK_LINE}_2.13:{version('delta-spark')}"],
    "s3": [
        f"org.apache.hadoop:hadoop-aws:{HADOOP_AWS}",
        *(f"software.amazon.awssdk:{name}:{AWS_SDK}" for name in ("s3", "s3-transfer-manager", "sts", "apache-client")),
    ],
}
# The SDK's `bundle` is over 600 MB, all of it in the four parts named above; the rest is in Spark already.
EXCLUDED = [
    "software.amazon.awssdk:bundle",
    "org.slf4j:slf4j-api",
    "org.xerial.snappy:snappy-java",
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
    "com.github.luben:zstd-jni",
    "com.fasterxml.jackson.datatype:jackson-datatype-jdk8",
]


def artifact(file_name: str) -> str:
    """The artifact of a JAR: its file name without the version."""
    return re.sub(r"-\d[^-]*(-[^-]*)?\.jar$", "", file_name)


def own_name(jar: Path) -> str:
    """The name of a JAR as it was published: Ivy writes its organisation before it."""
    return jar.name.partition("_")[2]


def pins() -> dict[str, str]:
    """The SHA-256 of each JAR by Ivy's name for it."""
    lines = (line.split() for line in Path(__file__).with_name("jars.txt").read_text().splitlines())
    return {name: digest for digest, name in lines}


def resolve(name: str) -> int:
    """Download the set unless it is there already; returns an exit status."""
    target = Path(pyspark.__file__).parent / "jars"
    mark = target / f".flowlog-{name}"
    wanted = "\n".join(SETS[name])
    if mark.exists() and mark.read_text() == wanted:
        return 0
    ivy = Path(sys.prefix, f"ivy-{name}")
    shutil.rmtree(ivy, ignore_errors=True)
    log = Path(sys.prefix, f"ivy-{name}.log")
    command = ["spark-submit", "--master", "local[1]", "--packages", ",".join(SETS[name]), "--exclude-packages", ",".join(EXCLUDED)]
    command += ["--conf", f"spark.jars.ivy={ivy}", "--conf", "spark.ui.enabled=false", __file__, "check"]
    with log.open("w") as told:
        status = subprocess.run(command, stdout=told, stderr=subprocess.STDOUT, check=False).returncode  # noqa: S603 - made of constants
    if status:
        lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
        reason = next((line for line in lines if "unresolved" in line or "Exception" in line), lines[-1] if lines else "no output")
        print(f"flowlog setup: JARs of set {name!r} cannot be resolved; is the Maven repository within reach? ({reason})", file=sys.stderr)
        return 1
    # Spark's own version of a library wins: two on one class path is how a session fails to start.
    shipped = {artifact(file.name) for file in files("pyspark") or () if file.suffix == ".jar"}
    wanted_jars = [jar for jar in sorted((ivy / "jars").glob("*.jar")) if artifact(own_name(jar)) not in shipped]
    for jar in wanted_jars:
        found = hashlib.sha256(jar.read_bytes()).hexdigest()
        if found != pins().get(jar.name):
            print(
                f"flowlog setup: {jar.name} has SHA-256 {found}, and .ci/jars.txt says {pins().get(jar.name, 'nothing')}", file=sys.stderr
            )
            return 1
    for jar in wanted_jars:
        for former in (one for one in target.glob("*.jar") if artifact(one.name) == artifact(own_name(jar))):
            former.unlink()
        shutil.copy(jar, target / own_name(jar))
    mark.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(0 if sys.argv[1] == "check" else resolve(sys.argv[1]))
