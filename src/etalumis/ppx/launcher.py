# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Becomes the command given, bound to die with the process that asked: `launcher.py PARENT_PID COMMAND...`.

A simulator whose inference side was killed outright would wait for the next message for ever. The kernel can end it
instead (PR_SET_PDEATHSIG), but has to be asked from inside the child; doing so between fork and exec of a process
with threads (PyTorch, MPI) is unsafe, so this program does it. Standard library only: it runs under `python -I -S`.
The signal comes when the THREAD that started the simulator ends, so that thread has to outlive the simulator.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the signal, undo what the interpreter did to signals, and exec."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("etalumis: the process that wanted this simulator has gone")
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"etalumis: cannot execute {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
