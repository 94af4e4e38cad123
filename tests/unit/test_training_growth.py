# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A finished network that is trained on, with a layer table that has grown."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from example_traces import ExampleTraces, make_example_traces
from growing_model import WALK
from mpi4py import MPI
from synthetic_batches import PRIORS, SMALL, layer_table

from etalumis import layers
from etalumis.cli import main
from etalumis.config import Config, from_mapping, to_yaml
from etalumis.errors import NetworkError
from etalumis.layers import LayerTable, TagInput
from etalumis.network import ProposalNetwork, checkpoint
from etalumis.traces.format import Provenance
from etalumis.traces.reading.dataset import TraceDataset
from etalumis.traces.recording.generate import generate
from etalumis.traces.sorting.sort import sort
from etalumis.training import prepare
from etalumis.training.average import WeightAverage
from etalumis.training.optimizer import Optimizer, RowGradient


def test_a_grown_network_begins_as_one_made_whole() -> None:
    """New rows depend on the seed and on their address, not on when, in which order or beside what they are made."""
    small = layer_table(PRIORS[:4], 1, (6,), (TagInput("t", (2,)),))
    other = layer_table(PRIORS, 2, (6,), (TagInput("t", (2,)),))
    grown, turned = small.grow(other), LayerTable(other.rows[::-1], other.observations, tags=other.tags)
    config = SMALL.model_copy(update={"tags": {"t": (small.rows[0].name,)}})
    whole, backwards = ProposalNetwork(grown, config, 7), ProposalNetwork(turned, config, 7)
    network = ProposalNetwork(small, config, 7)
    for count in (len(small), len(small) + 1, len(small) + 9, len(grown)):
        network.grow(grown.first(count), 7)
    found, expected = network.state_dict(), whole.state_dict()
    assert list(network.tables) == list(whole.tables)
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert torch.equal(network.tag_inputs.mask, whole.tag_inputs.mask)
    assert network.parameter_count() == whole.parameter_count()
    assert not any(table.requires_grad for table in network.tables.values())
    for number, row in enumerate(grown.rows):
        there = turned.row(row.address)
        assert torch.equal(whole.tables["address"][number], backwards.tables["address"][there])
        group = whole.grouping.groups[whole.grouping.group_of[number]]
        for name in ("sample_weight", "hidden_weight", "out_weight", "out_bias"):
            mine = whole.tables[f"{group.key}_{name}"][whole.grouping.row_of[number]]
            assert torch.equal(mine, backwards.tables[f"{group.key}_{name}"][backwards.grouping.row_of[there]])
    drawn = torch.cat([value.flatten() for name, value in whole.tables.items() if name.endswith("hidden_weight")])
    assert float(drawn.std()) == pytest.approx((2.0 / 16) ** 0.5, rel=0.02)
    assert not torch.equal(ProposalNetwork(small, SMALL, 8).tables["address"], network.tables["address"][: len(small)])


def test_a_table_that_does_not_begin_with_the_rows_of_the_network_is_refused() -> None:
    table = layer_table(PRIORS, 1, (6,))
    network = ProposalNetwork(table, SMALL)
    with pytest.raises(NetworkError, match="does not begin with that of the network"):
        network.grow(LayerTable(table.rows[::-1], table.observations), 0)


@pytest.mark.parametrize("rule", ["adam", "sgd_larc"])
def test_the_optimizer_keeps_the_state_of_known_rows(rule: str) -> None:
    """Against an optimizer that had the whole tables from the start, of which the new rows were never touched."""
    torch.manual_seed(2)
    dense, table, late = torch.randn(3), torch.randn(4, 2), torch.randn(3, 5)
    gradients = [(torch.randn(3), torch.randn(2, 2), torch.randn(2, 5)) for _ in range(6)]
    copies = dense.clone(), table.clone(), late.clone()
    whole = Optimizer(rule, {"d": copies[0]}, {"t": copies[1], "u": copies[2]})
    average, grown_average = WeightAverage(0.7, {"d": copies[0]}, {"t": copies[1], "u": copies[2]}), None
    grown = Optimizer(rule, {"d": dense}, {"t": (known := table[:2].clone())})
    grown_average = WeightAverage(0.7, {"d": dense}, {"t": known})
    for number, (of_dense, of_table, of_late) in enumerate(gradients, 1):
        if number == 4:
            known, table = torch.cat([known, table[2:]]), known
            grown.grow({"t": known, "u": late})
            grown_average.grow({"t": known, "u": late})
        rows = {"t": RowGradient(torch.tensor([0, 1] if number < 4 else [1, 3]), of_table)}
        rows |= {"u": RowGradient(torch.tensor([0, 2]), of_late)} if number >= 4 else {}
        touched = {name: gradient.rows for name, gradient in rows.items()}
        for optimizer, weights in ((whole, average), (grown, grown_average)):
            weights.catch_up(number, touched)
            optimizer.step({"d": of_dense.clone()}, rows, 0.1)
            weights.update(number, {"d": of_dense}, touched)
    for mine, theirs in zip((dense, known, late), copies, strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in ((grown.state(), whole.state()), (grown_average.state(), average.state())):
        for part, tensors in theirs.items():
            assert all(torch.equal(tensors[name], mine[part][name]) for name in ("d", "t", "u"))
    with average.in_place(6), grown_average.in_place(6):
        assert torch.equal(late, copies[2])


def settings(**training: object) -> Config:
    defaults = {"batch_size": 16, "max_traces": 320, "learning_rate": 1e-2, "warmup_iterations": 0, "valid_every": 10}
    network = SMALL.model_dump() | {"tags": {"steps": ["choice"]}}
    return from_mapping({"network": network, "training": defaults | training})


def more_traces(old: ExampleTraces, folder: Path, count: int) -> ExampleTraces:
    """Return traces with more addresses than the old ones, and the old table grown by them."""
    generate(WALK, folder / "more.h5", Provenance("test", "walk", "config", "", 2, "train", 0), 0, count)
    sort([folder / "more.h5"], folder / "more", 1000)
    table = LayerTable.load(old.layers).grow(layers.build([folder / "more"]))
    table.save(folder / "grown.json")
    return ExampleTraces(folder / "grown.json", folder / "more", old.valid)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> ExampleTraces:
    return make_example_traces("walk", tmp_path_factory.mktemp("old"), 64, 32, WALK)


@pytest.fixture(scope="module")
def more(old: ExampleTraces, tmp_path_factory: pytest.TempPathFactory) -> ExampleTraces:
    grown = more_traces(old, tmp_path_factory.mktemp("more"), 512)
    assert len(LayerTable.load(grown.layers)) > len(LayerTable.load(old.layers)) + 5
    return grown


def train(traces: ExampleTraces, config: Config, output: Path, start: Path | None = None) -> Path:
    outcome = prepare.train(config, traces.layers, traces.train, traces.valid, output, MPI.COMM_SELF, start_from=start)
    assert outcome.finished
    return output


@pytest.fixture(scope="module")
def trained(old: ExampleTraces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(old, settings(), tmp_path_factory.mktemp("trained") / "network")


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint: of the network, and of the state of its training."""
    network, _, moments = checkpoint.load_training(folder / "checkpoint")
    rows = {f"{part} {name}": value for part, values in moments.items() for name, value in values.items()}
    return {**{name.removeprefix("tables."): value for name, value in network.state_dict().items()}, **rows}


def test_old_rows_are_trained_as_if_the_network_had_not_grown(
    old: ExampleTraces, more: ExampleTraces, trained: Path, tmp_path: Path
) -> None:
    """With data that has old addresses only; new rows keep their initial values, those of a network made whole."""
    config = settings(average_decay=0.9)
    same = train(old, config, tmp_path / "same", trained)
    grown = train(ExampleTraces(more.layers, old.train, old.valid), config, tmp_path / "grown", trained)
    expected, found = tensors_of(same), tensors_of(grown)
    assert expected.keys() < found.keys() or expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name][: len(value)] if value.ndim else found[name], value), name
    saved, whole = checkpoint.load(grown), checkpoint.load(same)
    for name, value in whole.state_dict().items():
        assert torch.equal(saved.state_dict()[name][: len(value)] if value.ndim else saved.state_dict()[name], value)
    table = LayerTable.load(more.layers)
    assert saved.layers.rows == table.rows
    fresh = ProposalNetwork(table, config.network, prepare.initial_seed(config.run.seed))
    known = len(LayerTable.load(old.layers))
    assert torch.equal(saved.tag_inputs.mask, fresh.tag_inputs.mask)
    assert saved.tag_inputs.mask[known:].any()
    assert torch.equal(found["address"][known:], fresh.tables["address"][known:])
    assert not found["steps address"][known:].any()
    for group in fresh.grouping.groups:
        count = len(expected[f"{group.key}_hidden_weight"])
        rows = slice(count, None)
        assert torch.equal(found[f"{group.key}_hidden_weight"][rows], fresh.tables[f"{group.key}_hidden_weight"][rows])
    # the training goes on from the moments of the finished one, not from zero
    assert expected["steps lstm.weight_hh_l0"] == 2 * 320 / 16
    assert checkpoint.read_manifest(same)["training"]["iterations"] == 320 / 16


def test_new_addresses_are_learned(more: ExampleTraces, trained: Path, tmp_path: Path) -> None:
    """And a categorical one begins at the frequencies of its categories."""
    untouched = train(more, settings(max_traces=16, learning_rate=1e-9, learning_rate_end=0.0), tmp_path / "0", trained)
    network = checkpoint.load(untouched)
    known, dataset = len(checkpoint.load(trained).layers), TraceDataset(more.train, network.layers)
    number = next(n for n, row in enumerate(network.layers.rows) if n >= known and row.kind == "Categorical")
    batch = dataset.batch(np.arange(len(dataset)), (0,))
    count = np.bincount(batch.value[batch.layer == number].astype(int), minlength=3)
    share = (count + 0.5) / (count.sum() + 1.5)
    bias = network.tables["Categorical3_out_bias"][network.grouping.row_of[number]]
    np.testing.assert_allclose(torch.softmax(bias, 0), share, rtol=1e-4)
    longer = train(more, settings(max_traces=512), tmp_path / "1", trained)
    steps = tensors_of(longer)["steps address"]
    assert (steps[known:] > 0).all()


def test_a_training_from_a_network_is_resumed_and_extended_bit_for_bit(
    more: ExampleTraces, trained: Path, tmp_path: Path
) -> None:
    constant = {"schedule": "none", "noise_ramp_share": 0.0}
    straight = train(more, settings(max_traces=320, **constant), tmp_path / "straight", trained)
    train(more, settings(max_traces=160, **constant), tmp_path / "extended", trained)
    extended = train(more, settings(max_traces=320, **constant), tmp_path / "extended", trained)
    expected, found = tensors_of(straight), tensors_of(extended)
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: shutil.rmtree(folder / "checkpoint"), "the state of its optimizer is not there"),
        (lambda folder: None, "the state of its optimizer was adam, not sgd; it starts anew"),
    ],
)
def test_a_network_without_a_usable_optimizer_starts_with_a_new_one(
    more: ExampleTraces,
    trained: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Path], object],
    said: str,
) -> None:
    caplog.set_level("INFO")
    start = shutil.copytree(trained, tmp_path / "start")
    change(start)
    config = settings(max_traces=16, **({"optimizer": "sgd"} if "sgd" in said else {}))
    output = train(more, config, tmp_path / "output", start)
    assert said in caplog.text
    assert tensors_of(output)["steps address"].max() <= 1


def test_a_network_that_does_not_fit_is_refused_in_words(
    old: ExampleTraces, more: ExampleTraces, trained: Path, tmp_path: Path
) -> None:
    def refused(message: str, config: Config | None = None, traces: ExampleTraces = more, output: str = "o") -> None:
        with pytest.raises(NetworkError, match=message):
            train(traces, config or settings(), tmp_path / output, trained)

    def with_table(name: str) -> ExampleTraces:
        return ExampleTraces(tmp_path / f"{name}.json", more.train, more.valid)

    wider = settings()
    wider = wider.model_copy(update={"network": wider.network.model_copy(update={"lstm_hidden": 20})})
    refused(r"another architecture: network.lstm_hidden: 20 \(the network has 16\)", wider)
    one = settings()
    one = one.model_copy(update={"observation": one.observation.model_copy(update={"name": "end"})})
    refused(r"trained for observations {'image': \(8, 9\), 'end': \(\)}, the layer table is of {'end': \(\)}", one)
    table = LayerTable.load(more.layers)
    turned = LayerTable(table.rows[::-1], table.observations, table.simulator_build_id, table.config_digest, table.tags)
    turned.save(tmp_path / "turned.json")
    refused("must begin with the .* addresses of the network, .* it has another order", traces=with_table("turned"))
    fewer = LayerTable(table.rows[1:], table.observations, table.simulator_build_id, table.config_digest, table.tags)
    fewer.save(tmp_path / "fewer.json")
    refused("it lacks 1 address of them. Make it with `etalumis layers --grow", traces=with_table("fewer"))
    with pytest.raises(NetworkError, match="would be overwritten; name another output"):
        train(more, settings(), trained, trained)


def test_a_network_of_another_simulator_is_refused(trained: Path, tmp_path: Path) -> None:
    other = make_example_traces("walk", tmp_path, 64, 32, WALK)
    table = checkpoint.load(trained).layers
    foreign = LayerTable(table.rows, table.observations, "another", table.config_digest, table.tags)
    checkpoint.save(tmp_path / "foreign", ProposalNetwork(foreign, settings().network))
    with pytest.raises(NetworkError, match="trained for simulator build another, the layer table is of"):
        train(other, settings(), tmp_path / "o", tmp_path / "foreign")


def test_a_checkpoint_whose_table_is_newer_than_its_tensors_is_read(trained: Path, more: ExampleTraces) -> None:
    """As a crash between the two writes of a network that has grown leaves it."""
    before = checkpoint.load(trained).layers
    LayerTable.load(more.layers).save(trained / "layers.json")
    try:
        assert checkpoint.load(trained).layers.digest == before.digest
    finally:
        before.save(trained / "layers.json")


def test_the_command_line_grows_a_table_and_trains_on(
    old: ExampleTraces, more: ExampleTraces, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(settings(max_traces=64)))
    words = ["layers", "--input", more.train, "--grow", trained / "layers.json", "--output", tmp_path / "layers.json"]
    assert main([str(word) for word in words]) == 0
    words = ["network", "train", "--config", tmp_path / "config.yaml", "--layers", tmp_path / "layers.json"]
    words += ["--train", more.train, "--valid", more.valid, "--start-from", trained, "--output", tmp_path / "network"]
    assert main([str(word) for word in words]) == 0
    network = checkpoint.load(tmp_path / "network")
    assert network.layers.extends(checkpoint.load(trained).layers)
    assert len(network.layers) == len(LayerTable.load(more.layers))
