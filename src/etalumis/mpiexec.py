# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`python -m etalumis.mpiexec -n N PROGRAM ...`: start the ranks of one MPI program on this machine.

It runs the `mpiexec` of the MPI library that mpi4py uses, with two differences. First, variables of a batch system are
removed from the environment: with SLURM_NODELIST set, MPICH starts ranks through `srun`, and waits indefinitely if
there is no `srun`. Second, a launch in which no rank starts within a timeout ends with an error.
"""

import argparse
import os
import select
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

START_TIMEOUT_S = 60.0
_KILL_TIMEOUT_S = 5.0
# MPICH, Open MPI and Intel MPI read node lists, launchers and ranks from these
_BATCH_PREFIXES = ("SLURM_", "PBS_", "LSB_", "LOADL", "COBALT_", "PMI_", "PMIX_", "OMPI_COMM_WORLD_", "HYDRA_BOOTSTRAP")
_BATCH_NAMES = ("PE_HOSTFILE", "SGE_ROOT", "HYDRA_HOST_FILE")
_LOCAL_LAUNCH_VARIABLES = {"HYDRA_LAUNCHER": "fork", "HYDRA_RMK": "user"}
# a rank first writes to the FIFO (opened for reading too, so that it never blocks), then becomes the program
_RANK_SHELL_COMMAND = '{ echo started 1<>"$1"; } 2>/dev/null; shift; exec "$@"'
_PROG = "etalumis.mpiexec"
"""Name of this module in messages, also in those of the shell that starts a rank."""


def main(argv: Sequence[str] | None = None) -> int:
    """Replace this process by `mpiexec`, which another process watches until the first rank starts."""
    parser = argparse.ArgumentParser(prog="python -m etalumis.mpiexec", description=__doc__, allow_abbrev=False)
    parser.add_argument("-n", type=_rank_count, required=True, metavar="N", help="number of ranks, at least 1")
    parser.add_argument(
        "--mpiexec", metavar="PROGRAM", help="mpiexec to run (default: next to this Python, otherwise on the PATH)"
    )
    parser.add_argument(
        "--start-timeout",
        type=float,
        default=START_TIMEOUT_S,
        metavar="S",
        help="seconds within which a rank must have started (default: %(default)g)",
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, help="program of the ranks, with its arguments")
    args = parser.parse_args(argv)
    program = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not program:
        parser.error("expected a program, such as: -n 2 etalumis traces sort ...")
    if shutil.which(program[0]) is None:
        parser.error(f"{program[0]}: expected a program to run, found none of this name here or on the PATH")
    mpiexec = args.mpiexec or find_mpiexec(os.environ)
    if mpiexec is None:
        parser.error("found no mpiexec beside this Python or on the PATH; install an MPI library: pip install mpich")
    nodes = os.environ.get("SLURM_JOB_NUM_NODES", "1")
    if nodes != "1":
        sys.stderr.write(
            f"{_PROG}: warning: the SLURM job has {nodes} nodes, but all {args.n} ranks start on this one, with its "
            "share of the memory; to use all nodes, launch with `srun`: `mpi` under set-resources in the profile\n"
        )
    try:
        fifo = Path(tempfile.mkdtemp(prefix="etalumis-mpi-")) / "started"
        os.mkfifo(fifo)
    except OSError as error:
        parser.error(f"{tempfile.gettempdir()}: cannot create a named pipe ({error.strerror}); set TMPDIR")
    _fork_watcher(fifo, args.start_timeout)
    os.execve(
        mpiexec,
        [mpiexec, "-n", str(args.n), "sh", "-c", _RANK_SHELL_COMMAND, _PROG, str(fifo), *program],
        local_environment(os.environ),
    )


def _rank_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text}")
    return int(text)


def find_mpiexec(environment: Mapping[str, str]) -> str | None:
    """Return the path of `mpiexec`: beside this Python, where the wheel installs it, or else on the PATH."""
    here = str(Path(sys.executable).parent)
    return shutil.which("mpiexec", path=os.pathsep.join([here, environment.get("PATH", os.defpath)]))


def local_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables of a batch system that decide where ranks run."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_BATCH_PREFIXES) and name not in _BATCH_NAMES
    }
    return kept | _LOCAL_LAUNCH_VARIABLES


def _fork_watcher(fifo: Path, timeout_s: float) -> None:
    """Start a process that watches this one; it is not a child, since MPICH waits for all children."""
    target = os.pidfd_open(os.getpid())
    ranks = os.open(fifo, os.O_RDWR)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.close(target)
        os.close(ranks)
        return
    os.setsid()
    if os.fork() == 0:
        _watch(target, ranks, timeout_s)
        shutil.rmtree(fifo.parent, ignore_errors=True)
    os._exit(0)


def _watch(target: int, ranks: int, timeout_s: float) -> None:
    """Wait until a rank has started or `mpiexec` has ended; after the timeout, end `mpiexec`."""
    os.closerange(0, 2)
    if select.select([target, ranks], [], [], timeout_s)[0]:
        return
    os.write(
        2,
        f"{_PROG}: error: no rank started within {timeout_s:g} s; ending mpiexec. Does `mpiexec -n 1 true` "
        "work in this shell? Variables of a batch system and an unknown host name are the usual causes.\n".encode(),
    )
    signal.pidfd_send_signal(target, signal.SIGTERM)
    if not select.select([target], [], [], _KILL_TIMEOUT_S)[0]:
        signal.pidfd_send_signal(target, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
