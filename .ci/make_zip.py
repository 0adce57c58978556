"""Pack the library as dist/flowlog_udfs.zip, the same bytes for the same sources, for `spark-submit --py-files`."""

import zipfile
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)

if __name__ == "__main__":
    target = Path("dist/flowlog_udfs.zip")
    target.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        kept = (source for source in Path("flowlog_udfs").rglob("*") if source.suffix in (".py", ".j2", ".css", ".js", ".json"))
        lists = {f"flowlog_udfs/{name}": Path("conf", name) for name in ("services.toml", "policy.toml")}
        for name, source in sorted({**{source.as_posix(): source for source in kept}, **lists}.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, source.read_bytes(), zipfile.ZIP_DEFLATED)
    print(target)
