"""Files into a folder: whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from flowlog_udfs.errors import StorageError
from flowlog_udfs.storage import FolderStorage

MEMORY = Path("/dev/shm")


@pytest.mark.skipif(not MEMORY.is_dir() or MEMORY.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev, reason="has one file system")
def test_a_file_from_another_file_system_comes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with tempfile.TemporaryDirectory(dir=MEMORY) as elsewhere:
        local = Path(elsewhere, "report.json")
        local.write_text("{}")
        FolderStorage(str(tmp_path)).put(local, "reports/report.json")
        assert (tmp_path / "reports" / "report.json").read_text() == "{}"
        assert not local.exists()
        local.write_text('{"new": 1}')

        def breaks_off(source: Path, target: Path) -> None:
            Path(target).write_bytes(Path(source).read_bytes()[:4])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(shutil, "move", breaks_off)
        with pytest.raises(StorageError, match="No space left on device"):
            FolderStorage(str(tmp_path)).put(local, "reports/report.json")
        assert (tmp_path / "reports" / "report.json").read_text() == "{}"
