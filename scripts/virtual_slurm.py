# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Run a command on a SLURM of four virtual nodes that lives on this machine as long as the command.

    python3 scripts/virtual_slurm.py snakemake --profile slurm --configfile config/test.yaml

It is a real SLURM (munge, slurmctld, four slurmd), for trying a profile and for the tests. Everything that it writes is
in one private folder, and its ports are free ones, so that several of them can run on a machine. It needs the Debian
packages slurm-wlm and munge, which it installs if it may.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import debian_packages

NODES = 4
NODE_CPUS = 2
NODE_MB = 8000
PACKAGES = ("slurm-wlm", "munge")
DAEMONS = ("munged", "slurmctld", "slurmd")
# clients hang for minutes if a daemon is missing; srun is not limited, since it lasts as long as its program
CLIENTS = {
    **dict.fromkeys(("sbatch", "squeue", "scancel", "sinfo", "scontrol", "sacct", "sacctmgr", "sshare", "sstat"), 60),
    "srun": None,
    "salloc": None,
}
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")

# MinJobAge: ended jobs stay visible to squeue, there is no accounting
# KillWait: seconds between SIGTERM and SIGKILL at a time limit, 30 on most sites
# OverMemoryKill: memory is watched by sampling, since cgroups need privileges that a container lacks
CONFIGURATION = """\
ClusterName=virtual
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.txt
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=5,sched_min_interval=0
MinJobAge=36000
InactiveLimit=0
KillWait=20
OverTimeLimit=0
SlurmdTimeout=20
CompleteWait=0
JobRequeue=1
MaxArraySize=1001
DefMemPerCPU=256
EnforcePartLimits=ALL
GresTypes=gpu
{nodes}
PartitionName=short Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 State=UP
PartitionName=long Nodes=ALL MaxTime=INFINITE DefaultTime=10 State=UP
"""
NODE = (
    "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={cpus} Boards=1 SocketsPerBoard=1 "
    "CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory={memory_mb}{gres} State=UNKNOWN"
)
GPU_NODES = ("n3", "n4")
"""Nodes with two pretended GPUs, so that requests of GPUs are granted."""


class SlurmUnavailable(Exception):
    """SLURM cannot be installed or started here; the message says why and what to do."""


def install() -> None:
    """Install SLURM and munge unless they are there.

    Raises
    ------
    SlurmUnavailable
        If they are missing and cannot be installed.
    """
    try:
        debian_packages.install(PACKAGES, missing)
    except debian_packages.PackagesUnavailable as error:
        raise SlurmUnavailable(str(error)) from error


def missing() -> list[str]:
    """Return the programs of SLURM and munge that are not installed."""
    return [name for name in (*DAEMONS, *CLIENTS) if _program(name) is None]


class VirtualSlurm:
    """A SLURM that runs while the context is open.

    Its clients find it through programs of the same names in the folder `bin`, which set SLURM_CONF. /etc/slurm is left
    alone: the job step of Snakemake's executor removes the variable SLURM_CONF, but not the PATH.

    Parameters
    ----------
    folder
        An empty folder with a short path, since that of a socket has 107 characters at most.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes."""
        return [f"n{number}" for number in range(1, NODES + 1)]

    def environment(self) -> dict[str, str]:
        """Return the environment of a command that uses this SLURM."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SRUN_"))
        }
        path = os.pathsep.join([str(self.folder / "bin"), kept.get("PATH", os.defpath)])
        # the ranks of a job are spread over the nodes, although two would fit on one
        return {**kept, "PATH": path, "SBATCH_SPREAD_JOB": "1"}

    def call(self, *command: str) -> str:
        """Run a client and return its output.

        Raises
        ------
        SlurmUnavailable
            If it fails or does not answer.
        """
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SlurmUnavailable(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def __enter__(self) -> Self:
        try:
            self._write()
            self._start_munge()
            self._run("slurmctld", "-c", "-f", str(self.folder / "slurm.conf"))
            for node in self.nodes:
                self.start_node(node)
            self._wait_for_nodes()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self._run("slurmd", "-N", node, "-f", str(self.folder / "slurm.conf"))

    def kill_node(self, node: str) -> None:
        """Kill the daemon of a node and all jobs on it, like a power failure; tell the controller that it is down."""
        jobs = _processes_on(node, self.folder)
        # the parents of the jobs first: they would tell the controller that the jobs have failed
        steps = {_parent(process) for process in jobs} & set(_processes_on(None, self.folder))
        for process in (self._pid(f"slurmd-{node}"), *steps, *jobs):
            _end(process, signal.SIGKILL)
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=killed")

    def _write(self) -> None:
        for name in ("state", "spool", "log", "bin"):
            (self.folder / name).mkdir(parents=True)
        ports = list(_free_ports(NODES + 1))
        nodes = [
            NODE.format(
                name=name,
                port=port,
                cpus=NODE_CPUS,
                memory_mb=NODE_MB,
                gres=" Gres=gpu:virtual:2" if name in GPU_NODES else "",
            )
            for name, port in zip(self.nodes, ports[1:], strict=True)
        ]
        user = pwd.getpwuid(os.geteuid()).pw_name
        text = CONFIGURATION.format(folder=self.folder, port=ports[0], user=user, nodes="\n".join(nodes))
        (self.folder / "slurm.conf").write_text(text, encoding="utf-8")
        gpus = "".join(f"NodeName={name} Name=gpu Type=virtual File=/dev/null,/dev/zero\n" for name in GPU_NODES)
        (self.folder / "gres.conf").write_text(gpus, encoding="utf-8")
        for name, limit_s in CLIENTS.items():
            program = self.folder / "bin" / name
            before = "" if limit_s is None else f"timeout {limit_s} "
            lines = (
                "#!/bin/sh",
                f'export SLURM_CONF="{self.folder}/slurm.conf"',
                f'exec {before}{_program(name)} "$@"',
            )
            program.write_text("\n".join([*lines, ""]), encoding="utf-8")
            program.chmod(0o755)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{suffix}" for option, suffix in files.items()]
        self._run("munged", "--force", *options)

    def _run(self, name: str, *options: str) -> None:
        """Start a daemon, which goes to the background by itself."""
        command = [str(_program(name)), *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise SlurmUnavailable(f"{name} does not start: {(done.stdout + done.stderr).strip()}")

    def _wait_for_nodes(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(SlurmUnavailable):
                idle = self.call("sinfo", "-h", "-p", "short", "-t", "idle", "-o", "%D").strip()
                if idle == str(NODES):
                    return
            if time.monotonic() > deadline:
                log = (self.folder / "log" / "slurmctld.log").read_text(encoding="utf-8")[-2000:]
                raise SlurmUnavailable(
                    f"expected {NODES} idle nodes within {START_TIMEOUT_S} s; slurmctld wrote:\n{log}"
                )
            time.sleep(0.1)

    def _pid(self, name: str) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / f"{name}.pid").read_text(encoding="ascii"))
        return None

    def _stop(self) -> None:
        """End jobs, then daemons, then what is left of both."""
        if self._pid("slurmctld") is not None:
            with contextlib.suppress(SlurmUnavailable):
                self.call("scancel", "--full", "--signal=KILL", f"--user={os.geteuid()}")
        daemons = [self._pid(name) for name in (*(f"slurmd-{node}" for node in self.nodes), "slurmctld", "munge")]
        for daemon in daemons:
            _end(daemon, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while any(_alive(daemon) for daemon in daemons) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in [*daemons, *_processes_on(None, self.folder)]:
            _end(process, signal.SIGKILL)


def _program(name: str) -> str | None:
    """Return the path of an installed program, apart from the programs of a virtual SLURM around this one."""
    return shutil.which(name, path=os.pathsep.join(SYSTEM_FOLDERS))


def _free_ports(count: int) -> Iterator[int]:
    """Yield ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            yield listener.getsockname()[1]


def _processes_on(node: str | None, folder: Path) -> list[int]:
    """Return the processes of the jobs of this SLURM, on one node or on all, found by their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        here = b"SLURM_CONF=" + os.fsencode(folder / "slurm.conf") in variables
        on_node = node is None or b"SLURMD_NODENAME=" + node.encode() in variables
        if here and on_node:
            found.append(int(entry.name))
    return found


def _parent(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        # the name, in parentheses, may contain spaces
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return None


def _alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _end(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def main(command: Sequence[str]) -> int:
    """Run a command on a virtual SLURM and return its exit code."""
    if not command or command[0] in ("-h", "--help"):
        sys.stdout.write(f"{__doc__}\n")
        return 0 if command else 2
    try:
        install()
        with tempfile.TemporaryDirectory(prefix="slurm-") as folder, VirtualSlurm(Path(folder)) as slurm:
            return subprocess.run(command, env=slurm.environment(), check=False).returncode
    except SlurmUnavailable as error:
        sys.stderr.write(f"virtual_slurm: error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
