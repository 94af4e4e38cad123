# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Online training: traces are simulated for it and used once; layers that are frozen, and layers that grow."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from example_traces import ExampleTraces, make_example_traces
from growing_model import CHOICES, WALK
from mpi4py import MPI
from synthetic_batches import SMALL

from etalumis.config import Config, from_mapping, load
from etalumis.distributions import Uniform
from etalumis.errors import NetworkError, SimulatorError
from etalumis.execution import Model
from etalumis.layers import LayerRow, LayerTable, build
from etalumis.models import FunctionModel, observe, sample
from etalumis.network import ProposalNetwork, checkpoint
from etalumis.ppx import Pool
from etalumis.simulator.built import BuiltSimulator
from etalumis.traces.format import Provenance
from etalumis.traces.reading.batch import Minibatch
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.recording.generate import generate
from etalumis.training import prepare
from etalumis.training.history import read_history
from etalumis.training.initialise import initialise_from_data
from etalumis.training.new_addresses import NewAddress, appended, merged
from etalumis.training.sampler import StreamOrder
from etalumis.training.trace_stream import Simulation, TraceStream
from etalumis.training.train import Outcome, Trainer

BATCH, TRACES = 8, 480
SEED = 1


def settings(**training: object) -> Config:
    defaults = {
        "batch_size": BATCH, "max_traces": TRACES, "learning_rate": 1e-2, "warmup_iterations": 0, "valid_every": 20,
        "noise_start": 0.2, "noise_ramp_share": 0.8, "average_decay": 0.9,
    }  # fmt: skip
    network = SMALL.model_dump() | {"tags": {"steps": ["choice"]}}
    return from_mapping({"run": {"seed": SEED}, "network": network, "training": defaults | training})


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> ExampleTraces:
    """Few traces, whose layer table lacks the addresses of long walks; the last one is that of the whole stream."""
    folder = tmp_path_factory.mktemp("few")
    traces = make_example_traces("walk", folder, 6, 64, WALK)
    generate(WALK, folder / "stream.h5", Provenance("test", "walk", "config", "", SEED, "online", 0), 0, TRACES)
    return ExampleTraces(traces.layers, folder / "stream.h5", traces.valid)


def train(few: ExampleTraces, output: Path, model: object = WALK, **training: object) -> Outcome:
    simulation = Simulation(model, "", "config")
    return prepare.train(settings(**training), few.layers, simulation, few.valid, output, MPI.COMM_SELF)


@pytest.fixture(scope="module")
def grown(few: ExampleTraces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("grown") / "network"
    assert train(few, output).finished
    return output


@pytest.fixture(scope="module")
def frozen(few: ExampleTraces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("frozen") / "network"
    assert train(few, output, online_layers="frozen").finished
    return output


def offline(few: ExampleTraces, table: LayerTable, output: Path, wrap: Callable[[TraceDataset], object]) -> Trainer:
    """Return a training on the stored traces of the stream, in their order, with another layer table."""
    config = settings()
    small = LayerTable.load(few.layers)
    known = ProposalNetwork(small, config.network, prepare.initial_seed(SEED))
    tags = tuple(config.network.tags)
    initialise_from_data(known, TraceDataset(few.valid, small, tags=tags))
    network = ProposalNetwork(table, config.network, prepare.initial_seed(SEED))
    state = network.state_dict()
    for name, value in known.state_dict().items():
        if value.shape == state[name].shape:
            state[name].copy_(value)
        else:
            state[name][: len(value)] = value
    for number in range(len(small), len(table)):
        if table.rows[number].kind == "Categorical":
            network.set_categorical_start(number, np.log(0.95 * np.array(CHOICES) + 0.05 / 3))
    stream, valid = (TraceDataset(path, table, tags=tags) for path in (few.train, few.valid))
    trainer = Trainer(network, wrap(stream), valid, config.training, SEED, output, "same", MPI.COMM_SELF)
    trainer.sampler = StreamOrder(BATCH, 1)
    return trainer


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    network, _, moments = checkpoint.load_training(folder / "checkpoint")
    rows = {f"{part} {name}": value for part, values in moments.items() for name, value in values.items()}
    finished = {f"saved {name}": value for name, value in checkpoint.load(folder).state_dict().items()}
    return {**network.state_dict(), **rows, **finished}


def require_equal(one: Path, other: Path) -> None:
    """Two trainings agree bit for bit: weights, optimizer, average, history."""
    expected, found = tensors_of(one), tensors_of(other)
    assert expected.keys() == found.keys()
    assert [name for name, value in expected.items() if not torch.equal(value, found[name])] == []
    columns = ("iteration", "traces", "train_loss", "learning_rate", "discarded")
    histories = [
        [[getattr(row, name) for name in columns] for row in read_history(folder / "history.csv")]
        for folder in (one, other)
    ]
    assert histories[0] == histories[1]


def test_a_network_that_grows_online_is_the_one_made_whole_and_trained_on_stored_traces(
    few: ExampleTraces, grown: Path, tmp_path: Path
) -> None:
    """Bit for bit: the same traces with the same noise, in the same order, and rows with the same initial values."""
    table = checkpoint.load(grown).layers
    small = LayerTable.load(few.layers)
    assert len(table) > len(small) + 8
    trainer = offline(few, table, tmp_path / "offline", lambda stream: stream)
    assert trainer.run().finished
    require_equal(tmp_path / "offline", grown)
    rows = read_history(grown / "history.csv")
    assert [row.addresses for row in rows] == sorted(row.addresses for row in rows)
    assert (rows[-1].addresses, rows[-1].discarded, rows[-1].traces) == (len(table), 0, TRACES)
    assert checkpoint.read_manifest(grown)["training"]["online"] is True


def test_new_rows_are_in_the_order_of_the_stream(few: ExampleTraces, grown: Path) -> None:
    """By iteration, and by address within one; against the addresses of the stored traces one by one."""
    rows = list(LayerTable.load(few.layers).rows)
    dataset, known = TraceDataset(few.train), {row.address for row in rows}
    expected = [row.address for row in rows]
    for start in range(0, TRACES, BATCH):
        new = {address for i in range(start, start + BATCH) for address in dataset.trace(i).addresses} - known
        expected += sorted(new)
        known |= new
    table = checkpoint.load(grown).layers
    assert [row.address for row in table.rows] == expected
    assert {(row.name, row.kind, row.categories) for row in table.rows} == {
        ("step", "Normal", 0), ("choice", "Categorical", 3), ("jump", "Uniform", 0)
    }  # fmt: skip
    assert all(row.count for row in table.rows)


class Known:
    """The stored traces without those of which an address has no layer."""

    def __init__(self, stream: TraceDataset) -> None:
        self._stream = stream
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._stream)

    def batch(self, indices: np.ndarray, noise_seed: tuple[int, ...], noise_scale: float = 1.0) -> Minibatch:
        whole = self._stream.batch(indices, noise_seed, noise_scale)
        bad = [bool((part < 0).any()) for part in np.split(whole.layer, whole.offset[1:-1])]
        self.left_out += sum(bad)
        return self._stream.batch(indices[~np.array(bad)], noise_seed, noise_scale)


def test_a_frozen_network_is_trained_on_the_traces_whose_addresses_it_knows(
    few: ExampleTraces, frozen: Path, tmp_path: Path
) -> None:
    trainer = offline(few, LayerTable.load(few.layers), tmp_path / "offline", Known)
    assert trainer.run().finished
    require_equal(tmp_path / "offline", frozen)
    rows = read_history(frozen / "history.csv")
    assert rows[-1].discarded == trainer.train_set.left_out > 10
    assert rows[-1].addresses == rows[0].addresses == len(LayerTable.load(few.layers))
    assert checkpoint.read_manifest(frozen)["training"]["discarded"] == rows[-1].discarded


def test_discarded_traces_are_reported(few: ExampleTraces, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    outcome = train(few, tmp_path / "o", online_layers="frozen", max_traces=160)
    found = f"{outcome.state.discarded} traces of 160 were discarded, since they have addresses without a layer"
    assert found in caplog.text
    assert "online, frozen layers" in caplog.text


def test_all_traces_of_an_iteration_may_be_discarded(few: ExampleTraces, tmp_path: Path) -> None:
    """A table of the jumps alone knows no trace: nothing changes but the counts."""
    table = LayerTable.load(few.layers)
    rows = [row for row in table.rows if row.name != "step"]
    LayerTable(rows, table.observations, "", "config", table.tags).save(tmp_path / "none.json")
    none = ExampleTraces(tmp_path / "none.json", few.train, few.valid)
    outcome = train(none, tmp_path / "o", online_layers="frozen", max_traces=24)
    assert (outcome.state.traces, outcome.state.discarded, outcome.state.iteration) == (24, 24, 3)
    assert not any(tensors_of(tmp_path / "o")["steps address"])


class Stopping:
    """A model that asks this process to stop when it makes run number `at`."""

    name = "walk"

    def __init__(self, at: int) -> None:
        self.left = at

    def run(self, execution: object) -> float | None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return WALK.run(execution)


@pytest.mark.parametrize(("layers", "at"), [("growing", 20), ("growing", 203), ("frozen", 100)])
def test_a_stopped_training_resumes_inside_the_stream(
    few: ExampleTraces, grown: Path, frozen: Path, tmp_path: Path, layers: str, at: int
) -> None:
    """Bit for bit; the first stop comes before most layers."""
    outcome = train(few, tmp_path / "o", Stopping(at), online_layers=layers)
    assert not outcome.finished
    assert at - 4 * BATCH < outcome.state.traces < at + BATCH  # minibatches are simulated in advance
    resumed = Stopping(0)
    assert train(few, tmp_path / "o", resumed, online_layers=layers).finished
    assert -resumed.left == TRACES - outcome.state.traces  # no trace is simulated again, and none in vain
    require_equal(grown if layers == "growing" else frozen, tmp_path / "o")


def test_prefetching_changes_neither_layers_nor_network(few: ExampleTraces, grown: Path, tmp_path: Path) -> None:
    """Minibatches that were read before the network grew get their layers when they are used."""
    for prefetch in (0, 5):
        assert train(few, tmp_path / str(prefetch), prefetch=prefetch).finished
        require_equal(grown, tmp_path / str(prefetch))


def test_a_stream_gives_the_minibatches_of_stored_traces(few: ExampleTraces) -> None:
    """For each rank, from any place, with noise and tags; the observe statement that is asked for alone."""
    table = LayerTable.load(few.layers)
    for names in (["image", "end"], ["end"], ["image"]):
        seen = table.observing(names)
        dataset = TraceDataset(few.train, seen, tags=("steps",), observations=names)
        for ranks, first in ((1, 0), (2, 1), (3, 30)):
            stream = TraceStream(WALK, seen, SEED, ranks, tags=("steps",))
            for start in (first, first + 4 * ranks, 300 + first):
                indices = np.arange(start, start + 4 * ranks, ranks)
                found, expected = (source.batch(indices, (5, 0), 0.7) for source in (stream, dataset))
                for name in Minibatch.__slots__:
                    np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
                    assert getattr(found, name).dtype == getattr(expected, name).dtype


def test_a_network_is_trained_on_online(few: ExampleTraces, grown: Path, tmp_path: Path) -> None:
    """From a finished one, whose addresses are the first rows."""
    start = ExampleTraces(grown / "layers.json", few.train, few.valid)
    simulation = Simulation(WALK, "", "config")
    config = from_mapping({**settings(max_traces=160).model_dump(by_alias=True), "run": {"seed": 5}})
    prepare.train(config, start.layers, simulation, start.valid, tmp_path, MPI.COMM_SELF, start_from=grown)
    before, after = checkpoint.load(grown).layers, checkpoint.load(tmp_path).layers
    assert after.extends(before)
    assert tensors_of(tmp_path)["steps lstm.weight_hh_l0"] == (TRACES + 160) / BATCH


def test_ranks_agree_on_new_addresses_whoever_has_them() -> None:
    def new(address: str, count: int, first: int, probs: tuple[float, ...]) -> NewAddress:
        return NewAddress(LayerRow(address, "n", "Categorical", 2, count), first, probs)

    one, two, three = new("b", 1, 7, (0.1, 0.9)), new("b", 2, 4, (0.5, 0.5)), new("a", 5, 9, (1.0, 0.0))
    assert merged([one, two, three]) == merged([three, two, one]) == [three, new("b", 3, 4, (0.5, 0.5))]
    assert merged([one]) == [one]


def test_a_simulator_that_does_not_fit_is_refused_in_words(few: ExampleTraces, tmp_path: Path) -> None:
    def refused(message: str, simulation: Simulation) -> None:
        with pytest.raises(NetworkError, match=message):
            prepare.train(settings(), few.layers, simulation, few.valid, tmp_path, MPI.COMM_SELF)

    refused("built for simulator build , the simulator has another", Simulation(WALK, "another", "config"))
    refused("built for config digest config, the simulator has other", Simulation(WALK, "", "other"))

    def observes_another() -> None:
        sample(Uniform(0.0, 1.0))
        observe(Uniform(0.0, 1.0), name="other")

    other = Simulation(FunctionModel(observes_another), "", "config")
    refused(r"the simulator observes {'other': \(\)}; build the table", other)


def test_a_failing_run_ends_the_training_and_keeps_the_checkpoint(few: ExampleTraces, tmp_path: Path) -> None:
    class Failing(Stopping):
        def run(self, execution: object) -> float | None:
            self.left -= 1
            if self.left == 0:
                raise SimulatorError("it broke")
            return WALK.run(execution)

    with pytest.raises(SimulatorError, match="it broke"):
        train(few, tmp_path / "o", Failing(200), checkpoint_minutes=1e-9)
    resumed = Stopping(0)
    assert train(few, tmp_path / "o", resumed, checkpoint_minutes=1e-9).finished
    assert TRACES - 200 <= -resumed.left <= TRACES - 200 + 4 * BATCH


def require_the_stream_of_files(model: Model, folder: Path, tags: tuple[str, ...] = ()) -> LayerTable:
    """A stream has the minibatches of a file that was generated, bit for bit; return the layers of the file."""
    origin = Provenance("test", model.name, "config", "", SEED, "online", 0)
    generate(model, folder / "stream.h5", origin, 0, 48)
    table = build([folder / "stream.h5"])
    dataset = TraceDataset(folder / "stream.h5", table, tags=tags)
    stream = TraceStream(model, table, SEED, 1, tags=tags)
    for start in range(0, 48, 16):
        indices = np.arange(start, start + 16)
        found, expected = (source.batch(indices, (5, 0), 0.3) for source in (stream, dataset))
        for name in Minibatch.__slots__:
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    return table


def test_simulators_in_several_processes_give_the_stream_of_files(cpp_examples: Path, tmp_path: Path) -> None:
    with Pool([str(cpp_examples / "branching")], 2) as pool:
        require_the_stream_of_files(pool, tmp_path)


def test_sherpa_gives_the_stream_of_its_files(sherpa_simulator: Path, checkout: Path, tmp_path: Path) -> None:
    """With its image, its tags, and priors that differ from trace to trace; a table of one row grows to that of it."""
    config = load(checkout / "config" / "test.yaml")
    with BuiltSimulator(sherpa_simulator, config.simulator).start(2) as pool:
        table = require_the_stream_of_files(pool, tmp_path, ("visible_at_rest",))
        assert len(table) > 10
        stream = TraceStream(pool, table.first(1), SEED, 1)
        batch = stream.batch(np.arange(48), (5, 0))
    new = merged(batch.new_addresses(table.first(1)))
    grown = appended(table.first(1), new)
    assert {row.address: row for row in grown.rows[1:]} == {row.address: row for row in table.rows[1:]}
    np.testing.assert_array_equal(batch.using(grown).log_prior, batch.log_prior)
    assert (batch.using(grown).layer >= 0).all()
