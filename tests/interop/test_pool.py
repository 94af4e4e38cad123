# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Pools of real simulators: the same traces as one process gives, in spite of failures of their processes."""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from etalumis.address import AddressTable
from etalumis.cli import main
from etalumis.delegation import Answer, HandOver, RunPlan
from etalumis.errors import SimulatorError
from etalumis.execution import run
from etalumis.inference import importance, rmh
from etalumis.ppx import Pool, Simulator, connect
from etalumis.traces.format import Provenance
from etalumis.traces.recording.generate import generate

PLAN = RunPlan(observed={}, details=True, rejected=True)
OBSERVATIONS = {"obs0": np.array(8.0), "obs1": np.array(9.0)}
FAULTY = Path(__file__).with_name("faulty_pool.py")
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def command(cpp_examples):
    """Runs of different lengths, a tag, two observe statements."""
    return [str(cpp_examples / "marsaglia"), "--replaced"]


@pytest.fixture(scope="module")
def expected(command):
    """The traces of 2,000 seeds, by one process."""
    addresses = AddressTable()
    with Simulator(command) as simulator:
        pieces = [simulator.carry_out(PLAN, range(i, i + 250), addresses) for i in range(0, 2000, 250)]
    return [content(trace) for piece in pieces for trace in piece]


def content(trace):
    """The content of a trace, with the names of addresses instead of their integers."""
    return (
        [trace.addresses.name(address) for address in trace.address], trace.value, trace.distribution, trace.log_prob,
        trace.flags, trace.scope, trace.repetition, trace.name, trace.result, trace.log_prior, trace.log_likelihood,
        {name: value.tolist() for name, value in trace.tags.items()},
        [(x.name, x.address, x.log_prob) for x in trace.observes],
    )  # fmt: skip


def contents(traces):
    return [content(trace) for trace in traces]


def until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def alive(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def kill(pid, number=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@contextlib.contextmanager
def random_kills(pool, every_s=0.02):
    """Kill random workers."""
    over, rng = threading.Event(), random.Random(5)

    def strike():
        while not over.wait(rng.uniform(0.2, 1.8) * every_s):
            pid = rng.choice(pool.pids)
            if pid is not None:
                kill(pid)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# ---------------------------------------------------------------------- the same traces


def test_the_traces_are_those_of_one_process_and_all_workers_contribute(command, expected):
    with Pool(command, 3) as pool:
        assert pool.delegates
        assert len(set(pool.pids)) == 3
        traces = pool.carry_out(PLAN, range(2000), AddressTable())
        assert contents(traces) == expected
        assert len({id(trace.vocabulary) for trace in traces}) == 3
        assert pool.replaced == 0
        assert pool.carry_out(PLAN, (), AddressTable()) == []


def test_a_stream_is_ordered_and_bounded_and_may_be_closed_or_interleaved(command, expected):
    with Pool(command, 3) as pool:
        addresses = AddressTable()
        left = pool.stream(PLAN, range(1_000_000_000), addresses)
        assert contents(itertools.islice(left, 5)) == expected[:5]
        one, two = pool.stream(PLAN, range(300), addresses), pool.stream(PLAN, range(300, 600), addresses)
        mixed = list(itertools.chain.from_iterable(zip(one, two, strict=True)))
        assert contents(mixed[::2]) == expected[:300]
        assert contents(mixed[1::2]) == expected[300:600]
        left.close()
        assert contents(pool.carry_out(PLAN, range(600, 900), AddressTable())) == expected[600:900]  # another table


def test_several_plans_at_once_replay_rows_of_any_worker(command):
    addresses, observed = AddressTable(), OBSERVATIONS
    with Pool(command, 3) as pool, Simulator(command) as simulator:
        prior = RunPlan(observed=observed, details=True)
        starts = pool.carry_out(prior, range(12), addresses)
        requests = [
            (prior._replace(rows=trace.rows.with_value(0, 0.25), prefix=1), 100 + i)
            for i, trace in enumerate([starts[3], *starts])  # two of them have the same rows
        ]
        found = pool.carry_out_each(requests, addresses)
        of_found = [(plan._replace(rows=x.rows), seed) for (plan, seed), x in zip(requests, found, strict=True)]
        again = pool.carry_out_each(of_found, addresses)
        assert len({id(trace.rows.keys) for trace in found}) > 1
        for (plan, seed), trace, replayed in zip(requests, found, again, strict=True):
            assert content(trace) == content(simulator.carry_out(plan, (seed,), addresses)[0])
            assert trace.value[0] == 0.25
            if not trace.lost:
                kept = plan._replace(rows=trace.rows)
                assert content(replayed) == content(simulator.carry_out(kept, (seed,), addresses)[0])
        assert pool.carry_out_each([], addresses) == []


def test_engines_and_files_do_not_depend_on_the_number_of_workers(command, tmp_path):
    def outcomes(model, path):
        provenance = Provenance(model="m", run_seed=7, split="train", config_digest="c", simulator_build_id="b")
        generate(model, path, provenance, 0, 230, frame_traces=50)
        weighted = importance(model, OBSERVATIONS, runs=200, seed=3)
        chain = rmh(model, OBSERVATIONS, runs=300, seed=4, init_runs=20, betas=(1.0, 0.4, 0.0))
        return path.read_bytes(), [
            (posterior.log_weight.tolist(), {k: v.tolist() for k, v in posterior.values.items()})
            for posterior in (weighted, chain)
        ]

    with Simulator(command) as simulator:
        file, posteriors = outcomes(simulator, tmp_path / "one.h5")
    for workers in (2, 5):
        with Pool(command, workers) as pool:
            assert outcomes(pool, tmp_path / f"{workers}.h5") == (file, posteriors)


def test_assisted_and_interactive_runs(command):
    class Middle:
        """Gives a constant value to every draw."""

        def sample(self, site):
            return 0.1

        def observe(self, name, distribution, given):
            return None

    def answer(site):
        return Answer(0.2, HandOver.REST)

    def broken(site):
        raise KeyError("in the answer")

    addresses = AddressTable()
    with Pool(command, 2) as pool, Simulator(command) as simulator:
        for peer in (pool, simulator):
            with pytest.raises(KeyError, match="in the answer"):
                peer.assist(PLAN, 3, broken, addresses)
        assert pool.assist(PLAN, 3, answer, addresses).value == simulator.assist(PLAN, 3, answer, addresses).value
        assert run(pool, Middle()).value == run(simulator, Middle()).value
        assert pool.replaced == 0


def test_tcp_pinning_and_a_folder_for_each(command, expected, tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    with Pool(command, 3, endpoint=f"tcp://127.0.0.1:{free_ports(3)}", pin=True, scratch=tmp_path) as pool:
        assert contents(pool.carry_out(PLAN, range(50), AddressTable())) == expected[:50]
        assert [os.sched_getaffinity(pid) for pid in pool.pids] == [{cores[i % len(cores)]} for i in range(3)]
        assert sorted(os.sched_getaffinity(0)) == cores
        folders = [Path(f"/proc/{pid}/cwd").readlink() for pid in pool.pids]
        assert len(set(folders)) == 3
        assert all(tmp_path in folder.parents for folder in folders)
        (folders[0] / "left").write_text("behind")
        kill(pool.pids[0])
        assert contents(pool.carry_out(PLAN, range(50), AddressTable())) == expected[:50]
        assert not (folders[0] / "left").exists()
    assert not list(tmp_path.iterdir())


def free_ports(count):
    """Return a free port that is followed by free ports."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            for i in range(1, count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + i))
            return port


# ---------------------------------------------------------------------- failures


def test_kills_neither_lose_nor_repeat_nor_alter_a_run(command, expected, tmp_path):
    with Pool(command, 4, scratch=tmp_path, retries=50) as pool:
        for _ in range(20):
            with random_kills(pool):
                assert contents(pool.stream(PLAN, range(2000), AddressTable())) == expected
            if pool.replaced >= 10:
                break
        assert pool.replaced >= 10
    assert not list(tmp_path.iterdir())


def test_workers_that_hang_are_replaced(command, expected):
    with Pool(command, 2, timeout_s=0.3, retries=20) as pool:
        for pid in pool.pids:
            kill(pid, signal.SIGSTOP)
        assert contents(pool.carry_out(PLAN, range(100), AddressTable())) == expected[:100]
        assert pool.replaced == 2


def test_the_whole_program_is_restarted(command, expected, tmp_path):
    with Pool(command, 2, scratch=tmp_path) as pool:
        first = pool.pid
        stream = pool.stream(PLAN, range(600), AddressTable())
        found = contents(itertools.islice(stream, 100))
        kill(first)
        assert found + contents(stream) == expected[:600]
        assert pool.pid != first
        kill(pool.pid)
        until(lambda: not any(alive(pid) for pid in pool.pids))
        assert contents(pool.carry_out(PLAN, range(20), AddressTable())) == expected[:20]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        ("kill", "was killed by SIGKILL"),
        ("exit", "exited with code 3"),
        ("throw", "misbehaving on purpose"),
        ("hang", "did not answer within 0.3 s"),
    ],
)
def test_a_run_that_always_fails_is_named_and_affects_no_other(cpp_examples, mode, how):
    plain = [str(cpp_examples / "misbehave")]
    with Simulator(plain) as simulator:
        good = simulator.carry_out(PLAN, range(100), AddressTable())
    first = [trace.value[0] for trace in good]
    bad = min(range(100), key=first.__getitem__)
    limit = (min(first) + sorted(first)[1]) / 2
    with Pool([*plain, "--mode", mode, "--below", str(limit)], 3, timeout_s=0.3, retries=1) as pool:
        found = []
        stream = pool.stream(PLAN, range(100), AddressTable())
        with pytest.raises(SimulatorError, match=rf"(?s)in the run with seed {bad}\n.*it wrote to standard") as error:
            found.extend(stream)
        assert how in str(error.value)
        assert contents(found) == contents(good[:bad])
        others = [seed for seed in range(100) if seed != bad]
        rest = pool.carry_out(PLAN, others, AddressTable())
        assert contents(rest) == contents([good[seed] for seed in others])


@pytest.mark.parametrize("kind", ["bytes", "reset", "handshake"])
def test_invalid_answers_end_in_an_error_that_names_the_run(kind):
    with Pool([sys.executable, str(FAULTY), "{endpoint}", kind], 2, retries=1) as pool:
        assert pool.name == "faulty"
        with pytest.raises(SimulatorError, match=r"(?s)faulty has lost a process: worker .* the run with seed 41"):
            pool.carry_out(PLAN, (41,), AddressTable())


def test_an_interrupt_leaves_a_pool_that_works(cpp_examples):
    plain = [str(cpp_examples / "misbehave")]
    with Simulator(plain) as simulator:
        good = simulator.carry_out(PLAN, range(20), AddressTable())
    limit = max(trace.value[0] for trace in good)
    spared = [trace.seed for trace in good if trace.value[0] == limit]
    with Pool([*plain, "--mode", "hang", "--below", str(limit)], 2) as pool:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            pool.carry_out(PLAN, range(20), AddressTable())
        for pid in pool.pids:
            kill(pid)  # instead of waiting for the timeout
        assert contents(pool.carry_out(PLAN, spared, AddressTable())) == contents([good[spared[0]]])


def test_a_program_without_the_option_is_refused(tmp_path):
    script = "import argparse; argparse.ArgumentParser().parse_args()"
    with pytest.raises(SimulatorError, match=r"(?s)exited with code 2 before all.*unrecognized arguments.*--workers 2"):
        Pool([sys.executable, "-c", script, "{endpoint}"], 2, scratch=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_ordinary_simulator_is_refused(cpp_examples, tmp_path):
    script = "import os, sys; os.execv(sys.argv[1], [sys.argv[1], sys.argv[2] + '.0'])"
    with pytest.raises(SimulatorError, match="expected worker 0 of ppx::serve_workers"):
        Pool([sys.executable, "-c", script, str(cpp_examples / "gaussian"), "{endpoint}"], 1, scratch=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_program_that_ignores_the_option_is_refused_at_once(cpp_examples, tmp_path):
    script = "import os, sys; os.execv(sys.argv[1], sys.argv[1:3])"
    program = [sys.executable, "-c", script, str(cpp_examples / "gaussian"), "{endpoint}"]
    with pytest.raises(
        SimulatorError,
        match=r"ignores --workers and serves at its endpoint itself.*ppx::serve_workers.*leave out --workers",
    ):
        Pool(program, 2, scratch=tmp_path, start_timeout_s=DEADLINE_S)
    assert not list(tmp_path.iterdir())


def test_an_endpoint_in_use_is_refused(command, tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "ppx.1"))
        other.listen()
        with pytest.raises(SimulatorError, match=r"another process listens on ipc://.*ppx\.1"):
            Pool(command, 2, endpoint=f"ipc://{tmp_path / 'ppx'}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_its_client(command, number, tmp_path):
    script = (
        "import time\n"
        "from pathlib import Path\n"
        "from etalumis.cli.termination import terminating\n"
        "from etalumis.ppx import Pool\n"
        f"with terminating(), Pool({command!r}, 3, scratch=Path({str(tmp_path)!r})) as pool:\n"
        "    print(pool.pid, *pool.pids, flush=True)\n"
        "    time.sleep(60)\n"
    )
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with client:
        pids = [int(word) for word in client.stdout.readline().split()]
        assert all(alive(pid) for pid in pids)
        client.send_signal(number)
        client.wait(DEADLINE_S)
    until(lambda: not any(alive(pid) for pid in pids))
    if number == signal.SIGTERM:
        assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------- the program alone


@contextlib.contextmanager
def program(words, folder):
    """A program with its own TMPDIR; yields (process, function that returns its standard error)."""
    temporary = folder / "tmp"
    temporary.mkdir()
    log = folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(words, stderr=stderr, env={**os.environ, "TMPDIR": str(temporary)})
    try:
        yield process, lambda: log.read_text()
    finally:
        process.kill()
        process.wait()


def test_the_program_reports_and_replaces_dead_workers_and_ends_all(command, tmp_path):
    endpoint = tmp_path / "ppx"
    with program([*command[:1], f"ipc://{endpoint}", *command[1:], "--workers", "3"], tmp_path) as (process, log):
        until(lambda: log().count("serving at") == 3)
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        kill(children[1])
        until(lambda: log().count("serving at") == 4)
        assert f"worker 1 (pid {children[1]}) was killed by SIGKILL\n" in log()
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
        assert not any(alive(pid) for pid in children)
    assert {path.name for path in tmp_path.iterdir()} == {"tmp", "log"}
    assert not list((tmp_path / "tmp").iterdir())


def test_a_worker_that_never_serves_ends_the_program(command, tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "ppx.1"))
        other.listen()
        with program([*command[:1], f"ipc://{tmp_path / 'ppx'}", *command[1:], "--workers", "2"], tmp_path) as (
            p,
            log,
        ):
            assert p.wait(DEADLINE_S) == 1
        assert "exited with code 1 before it served, 5 times in a row" in log()
        assert (tmp_path / "ppx.1").exists()  # of another program
        assert not (tmp_path / "ppx.0").exists()


def test_idle_workers_end_the_program_with_success(command, tmp_path):
    words = [*command[:1], f"ipc://{tmp_path / 'ppx'}", *command[1:], "--workers", "2", "--idle-timeout", "0.2"]
    with program(words, tmp_path) as (process, _):
        assert process.wait(DEADLINE_S) == 0


def test_an_endpoint_for_one_worker_only_is_refused(command, tmp_path):
    with program([*command[:1], "tcp://127.0.0.1:*", "--workers", "2"], tmp_path) as (process, log):
        assert process.wait(DEADLINE_S) == 1
    assert "no endpoint for worker 0 next to `tcp://127.0.0.1:*`" in log()


# ---------------------------------------------------------------------- Sherpa


def proportional_bytes(pid):
    """Proportional set size: memory that n processes share counts one n-th."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")))


def test_eight_workers_of_sherpa(sherpa_simulator, tmp_path):
    command = [str(sherpa_simulator / "bin" / "sherpa_tau"), "--config", str(sherpa_simulator / "sherpa_tau.conf")]
    plan = PLAN._replace(observed=None, parameters=True)

    def images(traces):
        return [trace.observes[0].distribution.arrays[0].tobytes() for trace in traces]

    with Simulator(command, scratch=tmp_path) as simulator:
        addresses = AddressTable()
        one = [trace for i in range(0, 200, 40) for trace in simulator.carry_out(plan, range(i, i + 40), addresses)]
        single = proportional_bytes(simulator.pid)
    with Pool(command, 8, scratch=tmp_path) as pool:
        with random_kills(pool, every_s=0.3):
            traces = pool.carry_out(plan, range(200), AddressTable())
        assert contents(traces) == contents(one)
        assert images(traces) == images(one)
        pool.carry_out(plan, range(200), AddressTable())
        together = sum(proportional_bytes(pid) for pid in [pool.pid, *pool.pids] if pid is not None)
    assert together < 8 * single / 2  # the memory of the initialisation is shared
    assert not list(tmp_path.iterdir())


def test_the_command_line_makes_the_same_file_with_workers(sherpa_simulator, checkout, tmp_path):
    files = []
    for workers in ("1", "3"):
        path = tmp_path / f"{workers}.h5"
        words = ["--config", checkout / "config" / "test.yaml", "--simulator", sherpa_simulator, "--split", "valid"]
        assert main(["traces", "generate", *map(str, words), "--output", str(path), "--workers", workers]) == 0
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_a_relative_path_is_in_the_folder_where_the_program_was_started(cpp_examples, tmp_path):
    program = [str(cpp_examples / "gaussian"), "ipc://sim", "--workers", "2"]
    with subprocess.Popen(program, cwd=tmp_path, stderr=subprocess.DEVNULL) as pool:
        try:
            for number in range(2):
                with connect(f"ipc://{tmp_path}/sim.{number}", start_timeout_s=20) as worker:
                    assert len(worker.carry_out(RunPlan(), (1,), AddressTable())[0]) == 1
        finally:
            pool.terminate()
        assert pool.wait(20) == 0
    assert list(tmp_path.iterdir()) == []
