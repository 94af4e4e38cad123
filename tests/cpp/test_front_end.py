# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The C++ front end as its users meet it: its own tests and the example programs."""

import math
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

TIMEOUT_S = 300


def run(
    command: Sequence[str | Path], cwd: Path | None = None, env: dict[str, str] | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == code, f"{' '.join(words)}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done


def results(program: Path, *options: str) -> list[float]:
    return [float(line.split()[0]) for line in run([program, *options]).stdout.splitlines()]


def entries(program: Path, *options: str) -> list[dict[str, str]]:
    """The statements of local runs, result lines left out."""
    fields = ("kind", "address", "name", "distribution", "control", "scope", "repetition", "value")
    lines = run([program, "--entries", *options]).stdout.splitlines()
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in lines if not line.startswith("result")]


def test_the_cpp_unit_tests_pass(cpp_examples: Path, checkout: Path):
    listed = run(["ctest", "-N"], cwd=cpp_examples.parent).stdout
    programs = list((checkout / "src" / "cpp" / "tests").glob("test_*.cpp"))
    assert f"Total Tests: {len(programs)}" in listed
    run(["ctest", "--output-on-failure"], cwd=cpp_examples.parent)


EXAMPLES = "gaussian marsaglia branching hidden_markov linear_gaussian hundred all_distributions drifting misbehave"


@pytest.mark.parametrize("name", EXAMPLES.split())
def test_examples_print_help_and_run_without_a_client(cpp_examples: Path, name: str):
    program = cpp_examples / name
    assert "--local N" in run([program, "--help"]).stdout
    first = results(program, "--local", "5", "--seed", "7")
    assert len(set(first)) > 1
    assert first == results(program, "--local", "5", "--seed", "7")
    # Run i of a series has seed S + i: the second run of one is the first of the next.
    assert first[1:] == results(program, "--local", "4", "--seed", "8")


@pytest.mark.parametrize("options", [(), ("--replaced",)])
def test_marsaglia_draws_the_prior_of_the_gaussian(cpp_examples: Path, options: tuple[str, ...]):
    runs = 4000
    for program, own in (("gaussian", ()), ("marsaglia", options)):
        values = results(cpp_examples / program, "--local", str(runs), *own)
        mean = math.fsum(values) / runs
        variance = math.fsum((value - 1.0) ** 2 for value in values) / runs
        assert abs(mean - 1.0) < 5 * math.sqrt(5.0 / runs)
        assert abs(variance - 5.0) < 5 * 5.0 * math.sqrt(2.0 / runs)  # var of a normal's squared deviation: 2 sigma^4


def test_marsaglia_replaced_marks_its_repetitions(cpp_examples: Path):
    program = cpp_examples / "marsaglia"
    plain = [e for e in entries(program, "--local", "200") if e["kind"] == "sample"]
    replaced = [e for e in entries(program, "--local", "200", "--replaced") if e["kind"] == "sample"]
    assert [e["value"] for e in plain] == [e["value"] for e in replaced]
    assert {e["scope"] for e in plain} == {"0"}
    assert {e["scope"] for e in replaced} == {"1"}
    repetitions = [int(e["repetition"]) for e in replaced]
    # Two draws a repetition; a repetition follows its predecessor or starts the next run.
    assert repetitions[::2] == repetitions[1::2]
    steps = [after - before for before, after in zip([-1, *repetitions[::2]], repetitions[::2], strict=False)]
    assert all(step == 1 or after == 0 for step, after in zip(steps, repetitions[::2], strict=True))
    assert repetitions[::2].count(0) == 200
    assert len({e["address"] for e in replaced}) == 2


def test_addresses_are_the_same_in_every_process_and_readable(cpp_examples: Path):
    program = cpp_examples / "hundred"
    first, second = (entries(program, "--local", "1") for _ in range(2))
    assert [e["address"] for e in first] == [e["address"] for e in second]
    draws = [e["address"] for e in first if e["kind"] == "sample"]
    assert len(draws) == 100
    assert all(address.startswith("[Hundred::forward()+0x") for address in draws)
    assert any("pair_of_draws()+0x" in address for address in draws)


def test_a_site_table_decides_control(cpp_examples: Path, tmp_path: Path):
    table = tmp_path / "sites.txt"
    table.write_text("uncontrolled pair_of_*  # pairs\n", encoding="utf-8")
    draws = [e for e in entries(cpp_examples / "hundred", "--local", "1", "--sites", str(table)) if e["name"] != "sum"]
    assert {e["control"] for e in draws if "pair_of_draws" in e["address"]} == {"0"}
    assert {e["control"] for e in draws if "pair_of_draws" not in e["address"]} == {"1"}


def test_wrong_usage_and_errors_have_their_exit_codes(cpp_examples: Path, tmp_path: Path):
    gaussian = cpp_examples / "gaussian"
    assert "--locale" in run([gaussian, "--locale", "3"], code=2).stderr
    assert "--local expects a number" in run([gaussian, "--local", "many"], code=2).stderr
    table = tmp_path / "sites.txt"
    table.write_text("scope a\nscoop b\n", encoding="utf-8")
    assert f"{table}:2: expected `scope PATTERN`" in run([gaussian, "--sites", table], code=1).stderr
    assert "cannot bind `nonsense`" in run([gaussian, "nonsense"], code=1).stderr


def test_an_idle_example_exits_cleanly(cpp_examples: Path, tmp_path: Path):
    socket = tmp_path / "s.ipc"
    done = run([cpp_examples / "gaussian", f"ipc://{socket}", "--idle-timeout", "0.2"])
    assert f"serving at ipc://{socket}" in done.stderr
    assert not socket.exists()
