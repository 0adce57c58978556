"""Resolve a set of JARs with Spark's own Ivy and put them beside Spark's: `resolve_jars.py delta|s3`.

On the class path of every session started from .venv they need no --packages, and no resolution at each start. Clusters bring their own.
"""

import os
import re
import shutil
import sys
from importlib.metadata import version
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
    command = (
        f"spark-submit --master 'local[1]' --packages {','.join(SETS[name])} --exclude-packages {','.join(EXCLUDED)}"
        f" --conf spark.jars.ivy={ivy} --conf spark.ui.enabled=false {__file__} check > {log} 2>&1"
    )
    if os.system(command) != 0:  # noqa: S605 - the command is made of constants
        lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
        reason = next((line for line in lines if "unresolved" in line or "Exception" in line), lines[-1] if lines else "no output")
        print(f"flowlog setup: JARs of set {name!r} cannot be resolved; is the Maven repository within reach? ({reason})", file=sys.stderr)
        return 1
    shipped = {artifact(jar.name) for jar in target.glob("*.jar")}
    for jar in sorted((ivy / "jars").glob("*.jar")):
        name_and_version = jar.name.partition("_")[2]
        # Spark's own version of a library wins: two on one class path is how a session fails to start.
        if artifact(name_and_version) not in shipped:
            shutil.copy(jar, target / name_and_version)
    mark.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(0 if sys.argv[1] == "check" else resolve(sys.argv[1]))
