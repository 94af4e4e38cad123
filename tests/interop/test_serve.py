# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Python models served by `etalumis serve`: the same traces, chains and posteriors as in this process."""

import stat
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from exact.answers import ANSWERS, assert_weighted
from lanes import Statistics
from served import SERVE, ZOO, Client, served

from etalumis import execution
from etalumis.address import AddressTable
from etalumis.execution import PriorController
from etalumis.inference import importance, rmh
from etalumis.inference.observations import Observations
from etalumis.models import examples
from etalumis.ppx import Simulator, connect
from etalumis.ppx.messages import (
    Observe,
    ObserveResult,
    Run,
    RunResult,
    Sample,
    SampleResult,
    Tag,
    TagResult,
)

EXAMPLES = "etalumis.models.examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of models."""
    path = tmp_path_factory.mktemp("models")
    (path / "zoo.py").write_text(ZOO, encoding="utf-8")
    return path


def content(trace):
    """The content of a trace, with the names of addresses."""
    return {
        "addresses": [trace.addresses.name(number) for number in trace.address],
        "entries": [
            (float(value), law, float(log_prob), flags, scope, repetition, name)
            for value, law, log_prob, flags, scope, repetition, name in zip(
                trace.value,
                trace.distribution,
                trace.log_prob,
                trace.flags,
                trace.scope,
                trace.repetition,
                trace.name,
                strict=True,
            )
        ],
        "type": trace.type,
        "result": trace.result,
        "tags": {name: np.asarray(value).tolist() for name, value in trace.tags.items()},
        "observes": [(o.name, o.address, o.distribution.shape, o.log_prob) for o in trace.observes],
    }


class Conditioned(PriorController):
    """Draws from the prior, and conditions on observations."""

    def __init__(self, seed, observations):
        super().__init__(np.random.default_rng(seed))
        self.observations = Observations(observations)

    def observe(self, name, distribution, given):
        return self.observations.value(name, distribution, given)


@pytest.mark.parametrize("name", list(examples.ALL))
def test_the_trace_is_that_of_the_model_in_this_process(name: str):
    tables = AddressTable(), AddressTable()
    with Simulator([*SERVE, f"{EXAMPLES}:{name}", "{endpoint}"]) as peer:
        assert peer.name == name
        for seed in range(40):
            there, here = (
                execution.run(model, Conditioned(seed, ANSWERS[name].observations), table)
                for model, table in zip((peer, examples.model(name)), tables, strict=True)
            )
            assert content(there) == content(here)


@pytest.mark.parametrize(("name", "runs"), [("gaussian_unknown_mean", (6_000, 20_000)), ("branching", (2_000, 10_000))])
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_importance_sampling_is_exact(
    tmp_path: Path, transport: str, name: str, runs: tuple[int, int], statistics: Statistics
):
    size = statistics.size(*runs)
    address = f"ipc://{tmp_path / 'socket'}" if transport == "ipc" else "tcp://127.0.0.1:*"
    with served(tmp_path, f"{EXAMPLES}:{name}", address) as (_, endpoint), connect(endpoint) as peer:
        assert endpoint.startswith(transport)
        there = importance(peer, ANSWERS[name].observations, runs=size, seed=5)
    assert_weighted(there, ANSWERS[name])
    here = importance(examples.model(name), ANSWERS[name].observations, runs=size, seed=5)
    np.testing.assert_array_equal(here.log_weight, there.log_weight)


def test_a_chain_is_that_of_the_model_in_this_process():
    exact = ANSWERS["dependent_loop"]
    with Simulator([*SERVE, f"{EXAMPLES}:dependent_loop", "{endpoint}"]) as peer:
        there = rmh(peer, exact.observations, runs=300, burn_in=0, seed=6)
    here = rmh(examples.model("dependent_loop"), exact.observations, runs=300, burn_in=0, seed=6)
    np.testing.assert_array_equal(here.values["theta"], there.values["theta"])
    assert len(np.unique(there.values["theta"])) > 20


def test_a_program_of_three_lines_is_a_simulator(tmp_path: Path):
    program = tmp_path / "program"
    program.write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        import sys
        from etalumis.models import examples
        from etalumis.ppx.serve import serve
        serve(examples.model("branching"), sys.argv[1])
        """),
        encoding="utf-8",
    )
    program.chmod(stat.S_IRWXU)
    with Simulator([str(program)]) as peer:
        trace = execution.run(peer, PriorController(np.random.default_rng(1)), AddressTable())
    assert (peer.name, trace.result) == ("branching", trace.value[0])


def test_the_messages_of_every_statement(folder: Path):
    with (
        served(folder, "zoo:everything", "tcp://127.0.0.1:*", "--arg", "width=0.5") as (_, endpoint),
        Client(endpoint) as client,
    ):
        drawn = client.ask(Run())
        assert isinstance(drawn, Sample)
        assert drawn.address.startswith("[everything+1:")
        assert (drawn.name, drawn.control, drawn.replace, drawn.scope, drawn.shape) == ("x", False, False, 0, ())
        assert drawn.distribution.parameters == (0.0, 0.5)
        given = client.ask(SampleResult(np.full(1, 0.25)))  # PPX 1.0 peers answer in the shape (1,)
        assert isinstance(given, Observe)
        assert given.value is not None
        assert given.value.tolist() == 1.0
        asked = client.ask(ObserveResult())
        assert isinstance(asked, Observe)
        assert asked.value is None  # omitted, because the model gave none
        assert [array.tolist() for array in asked.distribution.arrays] == [0.25, 1.0]
        tagged = client.ask(ObserveResult())
        assert isinstance(tagged, Tag)
        assert (tagged.name, tagged.value.tolist()) == ("matrix", [[1.0, 0.25], [3.0, 4.0]])
        assert client.ask(TagResult()) == RunResult(None)
