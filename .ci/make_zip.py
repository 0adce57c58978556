"""Pack the library as dist/flowlog_udfs.zip, the same bytes for the same sources, for `spark-submit --py-files`."""

import zipfile
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)

if __name__ == "__main__":
    target = Path("dist/flowlog_udfs.zip")
    target.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for source in sorted(Path("flowlog_udfs").rglob("*.py")):
            entry = zipfile.ZipInfo(source.as_posix(), EPOCH)
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, source.read_bytes(), zipfile.ZIP_DEFLATED)
    print(target)
