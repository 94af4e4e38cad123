# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The Sherpa wheel: checksum, unpacking, and the prefix of an own installation."""

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from etalumis.errors import SimulatorError
from etalumis.files import sha256_of
from etalumis.simulator.checkout import cache_folder, resource
from etalumis.simulator.fetch import check_prefix, fetch_sherpa, unpack


@pytest.fixture(scope="module")
def wheel() -> dict[str, str]:
    """The pinned wheel."""
    pinned: dict[str, str] = json.loads(resource("sherpa", "wheel.json").read_text())
    return pinned


def test_a_file_with_a_wrong_checksum_is_renamed(tmp_path: Path, wheel: dict[str, str]) -> None:
    file = tmp_path / "wheels" / wheel["file"]
    file.parent.mkdir()
    file.write_bytes(b"not the wheel")
    found = sha256_of(file)
    with pytest.raises(SimulatorError, match="wrong checksum") as caught:
        fetch_sherpa(tmp_path)
    for part in (str(file), wheel["sha256"], found, "was renamed to", "simulator.prefix"):
        assert part in str(caught.value)
    assert not file.exists()
    assert file.with_name(file.name + ".wrong-checksum").read_bytes() == b"not the wheel"
    assert not list(tmp_path.glob("sherpa-*"))


def test_a_failed_download_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SimulatorError, match="cannot be downloaded") as caught:
        fetch_sherpa(tmp_path / "cache")
    assert "put the wheel at" in str(caught.value)


def test_a_cache_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SimulatorError, match="set ETALUMIS_CACHE to another one"):
        fetch_sherpa(tmp_path / "file")


def test_a_second_call_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = fetch_sherpa(cache_folder())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert fetch_sherpa(cache_folder()) == prefix
    assert fetch_sherpa(cache_folder() / "elsewhere", prefix) == prefix
    assert (prefix / "bin" / "Sherpa").stat().st_mode & 0o111, "permissions were lost"


def test_a_prefix_without_sherpa_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"bin/Sherpa is missing"):
        fetch_sherpa(tmp_path, tmp_path)
    for name in ("bin/Sherpa", "include/SHERPA-MC/SHERPA/Main/Sherpa.H"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    with pytest.raises(SimulatorError, match=r"Scoped_Settings\.H is missing"):  # Sherpa 2
        check_prefix(tmp_path)


def test_unpacking_is_all_or_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w") as file:
        program = zipfile.ZipInfo("bin/program")
        program.external_attr = 0o100755 << 16
        file.writestr(program, "#!/bin/sh\n")
        file.writestr("share/data", "x" * 10_000)
    unpack(archive, tmp_path / "whole")
    assert (tmp_path / "whole" / "bin" / "program").stat().st_mode & 0o777 == 0o755

    damaged = bytearray(archive.read_bytes())
    damaged[damaged.index(b"xxxx")] = ord("y")  # the archive's own checksum no longer holds
    (tmp_path / "b.whl").write_bytes(damaged)
    with pytest.raises(SimulatorError, match=r"b\.whl: damaged"):
        unpack(tmp_path / "b.whl", tmp_path / "absent")
    assert {path.name for path in tmp_path.iterdir()} == {"a.whl", "b.whl", "whole"}
