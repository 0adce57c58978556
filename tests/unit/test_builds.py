"""The zip and the wheel are the same bytes whoever builds them, wherever and whenever: what was reviewed can be compared with what runs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("flowlog_udfs", "jobs", "conf", ".ci", "pyproject.toml", "README.md", "LICENSE", ".gitignore")


def built(folder: Path, *, umask: int, changed_at: int) -> dict[str, bytes]:
    """What a copy of the sources in `folder` comes to, its files made by a user with this umask at this time."""
    folder.mkdir(parents=True)
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        os.utime(path, (changed_at, changed_at))
    environment = os.environ | {"TZ": "Asia/Tokyo" if umask else "UTC", "PYTHONHASHSEED": str(umask)}
    environment.pop("SOURCE_DATE_EPOCH", None)
    for command in ([".ci/make_zip.py"], ["-m", "hatchling", "build", "--target", "wheel"]):
        subprocess.run([sys.executable, *command], cwd=folder, env=environment, umask=umask, check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in (folder / "dist").iterdir()}


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    first = built(tmp_path / "one", umask=0o022, changed_at=1_000_000_000)
    assert {Path(name).suffix for name in first} == {".zip", ".whl"}
    assert first == built(tmp_path / "elsewhere" / "two", umask=0o077, changed_at=1_700_000_000)
    (tmp_path / "flowlog_udfs.zip").write_bytes(first["flowlog_udfs.zip"])
    with zipfile.ZipFile(tmp_path / "flowlog_udfs.zip") as packed:
        assert packed.testzip() is None
        assert {info.external_attr >> 16 for info in packed.infolist()} == {0o644}
