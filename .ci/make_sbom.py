"""Write the SBOM, dist/flowlog.cdx.json: the Python packages of constraints.txt by cyclonedx-py, and the JARs of jars.txt beside them.

Everything that a checkout installs, what only its tests and notebooks need included. The same pins give the same bytes.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

TARGET = Path("dist/flowlog.cdx.json")


def jar(line: str) -> dict[str, object]:
    """The component of a line `sha256  group_artifact-version.jar`."""
    digest, _, name = line.partition("  ")
    group, artifact, version = re.fullmatch(r"([^_]+)_(.+?)-(\d.*)\.jar", name).groups()
    purl = f"pkg:maven/{group}/{artifact}@{version}"
    hashes = [{"alg": "SHA-256", "content": digest}]
    return {"bom-ref": purl, "type": "library", "group": group, "name": artifact, "version": version, "purl": purl, "hashes": hashes}


if __name__ == "__main__":
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "constraints.txt", "--pyproject", "pyproject.toml"]
    listed = subprocess.run([*command, "--output-reproducible"], check=True, capture_output=True)  # noqa: S603 - made of constants
    made = json.loads(listed.stdout)
    made["components"] += [jar(line) for line in Path(".ci/jars.txt").read_text().splitlines()]
    text = json.dumps(made, indent=1, sort_keys=True) + "\n"
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"flowlog sbom: {fault}")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text)
    print(f"{TARGET}: {len(made['components'])} components")
