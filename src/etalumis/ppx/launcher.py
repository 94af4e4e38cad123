# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Executes a command that ends with its parent process: `launcher.py PARENT_PID COMMAND...`.

If the inference side is killed, its simulator would wait for the next message indefinitely. The kernel can end it
(PR_SET_PDEATHSIG), but the child itself must request that. Doing so between fork and exec of a process with threads
(PyTorch, MPI) is unsafe, so this program does it. It uses the standard library only and runs under `python -I -S`. The
signal is sent when the THREAD that started the simulator ends, so that thread must outlive the simulator.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Request the signal, restore the signal handlers that the interpreter changed, and exec."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("etalumis: the process that started this simulator has ended")
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"etalumis: cannot execute {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
