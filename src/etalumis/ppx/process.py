# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The process of a simulator: started in its own process group and folder, watched, and ended with all its children."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from etalumis.errors import SimulatorError

_LAUNCHER = Path(__file__).with_name("launcher.py")
_PLACEHOLDER = "{endpoint}"
_TAIL_LINES = 20
_TAIL_BYTES = 16_384
_MAX_LOG_BYTES = 16 << 20
"""Longer logs are emptied: a simulator that writes in every event must not fill the disk."""
_MAX_SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux (sun_path)."""
_TERMINATION_TIMEOUT_S = 2.0
"""Time from SIGTERM to SIGKILL."""


class SimulatorProcess:
    """One running simulator. It ends with `stop`, with this object, and with this interpreter.

    Parameters
    ----------
    command
        Program and arguments. The endpoint replaces `{endpoint}` in the arguments; if it does not occur, the endpoint
        becomes the first argument.
    endpoint
        Endpoint that the simulator binds; None for a new ``ipc://`` path.
    scratch
        Parent of the private folder (socket, logs) of the process; None for the temporary folder of the system.
    own_temporary
        Whether the private folder is also the TMPDIR of the process, so that its temporary files are removed as well.

    Raises
    ------
    SimulatorError
        If the program is missing or not executable, or no socket path is short enough.
    """

    def __init__(
        self,
        command: Sequence[str],
        endpoint: str | None = None,
        scratch: Path | None = None,
        own_temporary: bool = False,
    ) -> None:
        program = find_program(command)
        folder = _private_folder(scratch, need_socket=endpoint is None)
        self.command = tuple(command)
        self.endpoint = endpoint if endpoint is not None else f"ipc://{folder / 'ppx'}"
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())]
        try:
            self._stdout, self._stderr = _Log(folder / "stdout"), _Log(folder / "stderr")
            self._process = subprocess.Popen(
                [*launcher, program, *_arguments(command[1:], self.endpoint)],
                stdin=subprocess.DEVNULL,
                stdout=self._stdout.descriptor,
                stderr=self._stderr.descriptor,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(folder)} if own_temporary else None,
            )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise SimulatorError(f"cannot start the simulator {program}: {error.strerror}") from error
        self._end = weakref.finalize(self, _end, self._process, folder, os.getpid())

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return self._process.pid

    def ended(self) -> str | None:
        """Return how the process ended, e.g. "exited with code 3"; None while it runs.

        The process is not reaped before `stop`, so that its id cannot be reused.
        """
        if not self._end.alive:
            return "was stopped"
        try:
            status = _status(self.pid)
        except ChildProcessError:
            return "ended, and another part of this program reaped it"
        if status is None:
            return None
        if status.si_code == os.CLD_EXITED:
            return f"exited with code {status.si_status}"
        return f"was killed by {_signal_name(status.si_status)}"

    def report(self) -> str:
        """Return its command and the last lines of both of its output streams, for error messages."""
        lines = [f"  command: {' '.join(self.command)} (endpoint {self.endpoint})"]
        streams = {"standard error": self._stderr.tail(), "standard output": self._stdout.tail()}
        for stream, tail in streams.items():
            lines += [f"  it wrote to {stream}:", *(f"    {line}" for line in tail)] if tail else []
        if not any(streams.values()):
            lines.append("  it wrote nothing to standard error or standard output")
        return "\n".join(lines)

    def last_line(self, beginning: str) -> str | None:
        """Return the rest of the last line on its standard error that starts with `beginning`."""
        lines = reversed(self._stderr.last_lines())
        return next((line[len(beginning) :] for line in lines if line.startswith(beginning)), None)

    def lines_with(self, text: str) -> list[str]:
        """Return the different lines on its standard error that contain `text`."""
        return self._stderr.lines_with(text)

    def trim_logs(self) -> None:
        """Empty the logs that have grown past their bound."""
        for log in (self._stdout, self._stderr):
            log.trim()

    def stop(self) -> None:
        """End the process group (SIGTERM, then SIGKILL), reap it and remove its folder. May be called twice."""
        self._end()


class _Log:
    """A file that takes an output stream of a simulator."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        weakref.finalize(self, os.close, self.descriptor)

    def last_lines(self) -> list[str]:
        """Return the lines within its last `_TAIL_BYTES` bytes."""
        start = max(0, os.fstat(self.descriptor).st_size - _TAIL_BYTES)
        return os.pread(self.descriptor, _TAIL_BYTES, start).decode(errors="replace").splitlines()

    def lines_with(self, text: str) -> list[str]:
        """Return the different lines that contain `text`."""
        content = os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)
        return list(dict.fromkeys(line for line in content.decode(errors="replace").splitlines() if text in line))

    def tail(self) -> list[str]:
        """Return its last lines, few enough for an error message."""
        return self.last_lines()[-_TAIL_LINES:]

    def trim(self) -> None:
        """Empty the file if it has grown past its bound."""
        if os.fstat(self.descriptor).st_size > _MAX_LOG_BYTES:
            os.truncate(self.descriptor, 0)


class OtherProcess:
    """A process that is not a child of this one, identified by a pidfd, because process ids are reused.

    If the system does not support pidfds (macOS), it is identified by its id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor: int | None = None
        self._gone = False
        try:
            if hasattr(os, "pidfd_open"):
                self._descriptor = os.pidfd_open(pid)
                weakref.finalize(self, os.close, self._descriptor)
        except ProcessLookupError:
            self._gone = True

    def ended(self, wait_s: float = 0.0) -> bool:
        """Return whether it has ended, or ends within `wait_s` seconds."""
        if not self._gone and self._descriptor is not None:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            self._gone = bool(poll.poll(1000.0 * wait_s))
        elif not self._gone:
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                self._gone = True
        return self._gone

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._gone:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)


def find_program(command: Sequence[str]) -> str:
    """Return the absolute path of the program of a command.

    Raises
    ------
    SimulatorError
        If it does not exist or is not executable.
    """
    if not command:
        raise SimulatorError("the simulator's command is empty; expected the program and its arguments")
    found = shutil.which(command[0])
    if found is None:
        why = "is not executable" if Path(command[0]).exists() else "was not found"
        raise SimulatorError(f"the simulator {command[0]} {why}. Build it first, or correct its path.")
    return str(Path(found).absolute())


def _arguments(given: Sequence[str], endpoint: str) -> list[str]:
    if any(_PLACEHOLDER in argument for argument in given):
        return [argument.replace(_PLACEHOLDER, endpoint) for argument in given]
    return [endpoint, *given]


def _private_folder(scratch: Path | None, *, need_socket: bool) -> Path:
    # A long TMPDIR (batch systems) may leave no room for the name of a socket: /tmp is used then.
    parents = [scratch] if scratch is not None else [Path(tempfile.gettempdir()), Path(os.sep, "tmp")]
    for parent in parents:
        length = len(os.fsencode(parent.absolute())) + len("/etalumis-12345678/ppx.1234")
        if not need_socket or length <= _MAX_SOCKET_PATH_BYTES:
            try:
                return Path(tempfile.mkdtemp(prefix="etalumis-", dir=parent.absolute()))
            except OSError as error:
                raise SimulatorError(f"no folder for the simulator's socket in {parent}: {error.strerror}") from error
    raise SimulatorError(
        f"the path of a socket in {parents[0]} would exceed {_MAX_SOCKET_PATH_BYTES} bytes; "
        "choose a shorter scratch folder"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end(process: "subprocess.Popen[bytes]", folder: Path, owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork of the process that started the simulator
    _signal_group(process.pid, signal.SIGTERM)
    # Not reaped until the whole group has been killed: the zombie of its leader reserves the id of the group.
    deadline = time.monotonic() + _TERMINATION_TIMEOUT_S
    with contextlib.suppress(ChildProcessError):
        while _status(process.pid) is None and time.monotonic() < deadline:
            time.sleep(0.002)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _status(pid: int) -> os.waitid_result | None:
    """Return how a child ended, without reaping it; None while it runs."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def _signal_group(group: int, number: signal.Signals) -> None:
    # EPERM: every member of the group is a zombie (macOS).
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
