# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Training on traces of the example models: results, resuming and extending, errors."""

import math
import os
import re
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from example_traces import ExampleTraces, make_example_traces
from mpi4py import MPI
from scipy import special, stats
from synthetic_batches import SMALL, layer_table, random_batch
from system_errors import files_end_at
from tensorboardX.proto.event_pb2 import Event, SessionLog

from etalumis.cli import main
from etalumis.config import Config, from_mapping, to_yaml
from etalumis.distributions import Categorical, Normal
from etalumis.errors import ConfigError, DatasetError, NetworkError, StorageError
from etalumis.layers import LayerTable, ObservationLayout
from etalumis.network import ProposalNetwork, checkpoint
from etalumis.traces.reading.batch import Minibatch
from etalumis.training import initialise, prepare
from etalumis.training.evaluate import log_proposals
from etalumis.training.history import read_history
from etalumis.training.schedule import learning_rate
from etalumis.training.train import Trainer

TRAIN, VALID = 2048, 512
LONGER = TRAIN + 512  # ends in the second epoch


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory: pytest.TempPathFactory) -> ExampleTraces:
    return make_example_traces("gaussian_unknown_mean", tmp_path_factory.mktemp("gaussian"), TRAIN, VALID)


@pytest.fixture(scope="module")
def branching(tmp_path_factory: pytest.TempPathFactory) -> ExampleTraces:
    return make_example_traces("branching", tmp_path_factory.mktemp("branching"), TRAIN, VALID)


def settings(**training: object) -> Config:
    defaults = {"batch_size": 32, "learning_rate": 1e-2, "warmup_iterations": 5, "valid_every": 64}
    network = SMALL.model_dump() | {"mixture_components": 3}
    return from_mapping({"network": network, "training": defaults | training})


def train(traces: ExampleTraces, config: Config, output: Path, force: bool = False) -> ProposalNetwork:
    outcome = prepare.train(config, traces.layers, traces.train, traces.valid, output, MPI.COMM_SELF, force=force)
    assert outcome.finished
    return checkpoint.load(output)


@pytest.fixture(scope="module")
def trained(gaussian: ExampleTraces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained")
    train(gaussian, settings(max_traces=TRAIN * 2), output)
    return output


@pytest.mark.usefixtures("statistics")
def test_the_gaussian_posterior_is_learned(gaussian: ExampleTraces, tmp_path: Path) -> None:
    """Averaged over observations, the loss is bounded by the entropy of the exact posterior and is close to it."""
    network = train(gaussian, settings(max_traces=TRAIN * 12, learning_rate_end=1e-4), tmp_path)
    last = read_history(tmp_path / "history.csv")[-1]
    # prior N(1, sqrt 5), two observations of variance 2: posterior variance 1 / (1/5 + 2/2), entropies in nats
    entropy = 0.5 * math.log(2 * math.pi * math.e / (1 / 5 + 1))
    prior_entropy = 0.5 * math.log(2 * math.pi * math.e * 5)
    spread = math.sqrt(0.5 / VALID)  # mcse of a mean of half a chi-square of one degree of freedom
    assert last.prior_loss == pytest.approx(prior_entropy, abs=4 * spread)
    assert entropy - 4 * spread < last.valid_loss < entropy + 4 * spread + 0.05
    session, rng = network.session(np.array([3.0, 4.0]), defensive=0.0), np.random.default_rng(1)
    drawn = []
    for _ in range(2000):
        session.begin()
        proposed = session.propose(network.layers.rows[0].address, Normal(1.0, math.sqrt(5.0)), rng)
        assert proposed is not None
        drawn.append(proposed[0])
    # exact: precision 1/5 + 2/2, mean (1/5 + 7/2) / 1.2. The mcse is 0.02. A short training leaves a larger error;
    # importance weights correct it
    assert np.mean(drawn) == pytest.approx(3.7 / 1.2, abs=0.25)
    assert np.std(drawn) == pytest.approx(math.sqrt(1 / 1.2), abs=0.2)


def test_the_history_is_that_of_figure_7(trained: Path) -> None:
    rows = read_history(trained / "history.csv")
    assert [row.iteration for row in rows[:3]] == [1, 64, 128]
    assert rows[-1].traces == TRAIN * 2
    assert rows[0].valid_loss > rows[-1].valid_loss
    assert rows[0].prior_loss == rows[-1].prior_loss
    shares = [getattr(rows[-1], f"{name}_share") for name in ("read", "forward", "backward", "sync", "update")]
    assert sum(shares) == pytest.approx(1.0)
    training = checkpoint.read_manifest(trained)["training"]
    assert training["valid_by_name"]["mu"]["entries"] == VALID
    assert training["valid_by_name"]["mu"]["loss"] == pytest.approx(rows[-1].valid_loss)


def test_a_dry_run_says_what_a_training_takes(
    gaussian: ExampleTraces, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(settings(max_traces=3 * TRAIN, tasks=2)), encoding="utf-8")
    words = ["--config", str(tmp_path / "config.yaml"), "--layers", str(gaussian.layers)]
    assert main(["network", "plan", *words]) == 0
    planned = capsys.readouterr().out
    assert planned.endswith("not measured: give stored traces with --train\n")
    planned = planned[: planned.rindex("step")]
    more = ["--train", str(gaussian.train), "--valid", str(gaussian.valid), "--output", str(tmp_path / "network")]
    assert main(["network", "train", "--dry-run", *words, *more]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(planned)
    assert said.err == ""
    assert not (tmp_path / "network").exists()
    lines = dict(re.findall(r"^ *(\S[^:]*?) {2,}(.+)$", said.out, re.MULTILINE))
    total = checkpoint.load(trained).parameter_count()
    assert lines.pop("parameters") == f"{total:,}"
    parts = {name: int(text.replace(",", "")) for name, text in lines.items() if re.fullmatch(r"[\d,]+", text)}
    assert sum(parts.values()) == total
    assert set(parts) == {"observation embedding", "LSTM", "address embeddings", "1 x Normal"}
    assert re.fullmatch(r"about [\d,]+ MB for each of 2 ranks", lines["memory"])
    assert re.search(rf": {3 * TRAIN:,} traces, 3\.0 epochs, ", lines["training"])


def test_info_describes_a_network_and_its_checkpoint(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = read_history(trained / "history.csv")[-1]
    for folder in (trained, trained / "checkpoint"):
        assert main(["network", "info", str(folder)]) == 0
        text = capsys.readouterr().out
        for name in ("obs0", "obs1"):
            assert re.search(rf"observation +{name} \(a number\), read as \(y - [\d.]+\) / 2\.\d+, Vector", text)
        assert f"trained        {TRAIN * 2:,} traces" in text
        assert (f"  mu           {last.valid_loss:.3f} nats" in text) == (folder == trained)


@pytest.mark.parametrize(("start", "share", "lines"), [(0.1, 0.5, 1), (1.0, 0.5, 0), (0.1, 0.0, 0)])
def test_a_noise_ramp_without_effect_is_reported_once(
    gaussian: ExampleTraces, tmp_path: Path, caplog: pytest.LogCaptureFixture, start: float, share: float, lines: int
) -> None:
    """A vector is stored with its noise: training on it does not depend on the ramp."""
    caplog.set_level("INFO")
    train(gaussian, settings(max_traces=320, noise_start=start, noise_ramp_share=share), tmp_path / "one")
    assert sum("noise_ramp_share have no effect" in line for line in caplog.messages) == lines
    train(gaussian, settings(max_traces=320, noise_start=0.7, noise_ramp_share=0.3), tmp_path / "two")
    one, two = (checkpoint.load(tmp_path / name).state_dict() for name in ("one", "two"))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def branching_entropies() -> dict[str, float]:
    """Entropy in nats of each entry given the previous entries and the observation, by enumeration."""
    r, s, y = np.arange(30), np.arange(40), np.arange(400)
    rate = np.where(r[:, None] > 4, 6.0, 1.0 + np.array([1, 2, 8, 34, 144] + [0] * 25)[:, None] + s)
    joint = (
        stats.poisson.pmf(r, 4)[:, None, None]
        * stats.poisson.pmf(s, 4)[:, None]
        * stats.poisson.pmf(y, rate[..., None])
    )
    of_r, short = joint.sum(1), joint[:5]
    entropy_r = -special.xlogy(of_r, of_r / of_r.sum(0)).sum()
    entropy_s = -special.xlogy(short, short / short.sum(1, keepdims=True)).sum() / short.sum()
    return {"r": float(entropy_r), "s": float(entropy_s)}


@pytest.mark.usefixtures("statistics")
def test_traces_of_several_types_are_learned_together(branching: ExampleTraces, tmp_path: Path) -> None:
    """No loss is below the entropy of the exact conditional, and after training it is close to it."""
    train(branching, settings(max_traces=TRAIN * 8), tmp_path)
    parts = checkpoint.read_manifest(tmp_path)["training"]["valid_by_name"]
    for name, exact in branching_entropies().items():
        spread = 1.0 / math.sqrt(parts[name]["entries"])  # mcse: the log densities vary by about one nat
        assert exact - 4 * spread < parts[name]["loss"] < exact + 4 * spread
    assert parts["r"]["loss"] < parts["r"]["prior_loss"] - 0.8


class Meanwhile:
    """A dataset that calls `act` with the number of each minibatch, from 1, before it is read."""

    def __init__(self, dataset: object, act: Callable[[int], object]) -> None:
        self.dataset, self.act, self.read = dataset, act, 0

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: np.ndarray, noise_seed: tuple[int, ...], noise_scale: float = 1.0) -> object:
        self.read += 1
        self.act(self.read)
        return self.dataset.batch(indices, noise_seed, noise_scale)


def stop_at(number: int) -> Callable[[int], None]:
    """Stand for a batch system: send SIGTERM to this process when minibatch `number` is read."""
    return lambda read: os.kill(os.getpid(), signal.SIGTERM) if read == number else None


def trainer(
    traces: ExampleTraces, config: Config, output: Path, act: Callable[[int], object] = lambda _: None
) -> Trainer:
    layers = LayerTable.load(traces.layers)
    train_set, valid_set = (prepare.TraceDataset(path, layers) for path in (traces.train, traces.valid))
    network = ProposalNetwork(layers, config.network, 3)
    initialise.initialise_from_data(network, train_set)
    return Trainer(network, Meanwhile(train_set, act), valid_set, config.training, 1, output, "same", MPI.COMM_SELF)


@pytest.mark.parametrize("rule", ["adam", "sgd_larc"])
def test_a_training_stopped_in_mid_epoch_resumes_bit_for_bit(
    branching: ExampleTraces, tmp_path: Path, rule: str
) -> None:
    config = settings(max_traces=LONGER, optimizer=rule, valid_every=10, learning_rate=3e-3)
    assert trainer(branching, config, tmp_path / "straight").run().finished
    # 2048 traces are 64 iterations of 32: the stop lies in the second epoch, between two validations
    stopped = trainer(branching, config, tmp_path / "broken", stop_at(77)).run()
    assert not stopped.finished
    assert 75 <= stopped.state.iteration <= 77  # two minibatches are read ahead
    assert not (tmp_path / "broken" / "manifest.json").exists()
    assert trainer(branching, config, tmp_path / "broken").run().finished
    straight, broken = (checkpoint.load(tmp_path / name).state_dict() for name in ("straight", "broken"))
    assert all(torch.equal(value, broken[name]) for name, value in straight.items())
    columns = ("iteration", "traces", "epoch", "train_loss", "valid_loss", "learning_rate")
    histories = [
        [[getattr(row, name) for name in columns] for row in read_history(tmp_path / folder / "history.csv")]
        for folder in ("straight", "broken")
    ]
    assert histories[0] == histories[1]


def test_prefetching_does_not_change_the_network(branching: ExampleTraces, tmp_path: Path) -> None:
    """Across the end of an epoch, and with noise that rises with the number of traces."""
    states = []
    for prefetch in (0, 1, 5):
        output = tmp_path / str(prefetch)
        config = settings(max_traces=2560, noise_start=0.1, noise_ramp_share=0.8, valid_every=30, prefetch=prefetch)
        assert trainer(branching, config, output).run().finished
        states.append(checkpoint.load(output).state_dict())
    for state in states[1:]:
        assert all(torch.equal(value, state[name]) for name, value in states[0].items())


def test_minibatches_are_read_while_the_network_learns(branching: ExampleTraces, tmp_path: Path) -> None:
    """Each update waits until the minibatch after the next one has been read, which needs a concurrent reader."""
    training = trainer(branching, settings(max_traces=320), tmp_path)
    update, read = training._update, []

    def watched(*arguments: object) -> None:
        expected = min(training.state.iteration + 3, 10)
        deadline = time.monotonic() + 60.0
        while training.train_set.read < expected and time.monotonic() < deadline:
            time.sleep(0.001)
        read.append(training.train_set.read)
        update(*arguments)

    training._update = watched
    assert training.run().finished
    assert read == [3, 4, 5, 6, 7, 8, 9, 10, 10, 10]


def test_an_error_of_the_reader_ends_the_training(branching: ExampleTraces, tmp_path: Path) -> None:
    def fail(number: int) -> None:
        if number == 7:
            raise DatasetError("t.h5: column 'entries/value' cannot be read")

    training = trainer(branching, settings(max_traces=640), tmp_path, fail)
    with pytest.raises(DatasetError, match="entries/value"):
        training.run()
    assert training.state.iteration == 6
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_sigterm_is_handled_only_while_training(branching: ExampleTraces, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer(branching, settings(max_traces=64), tmp_path).run()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_finished_training_called_again_trains_again(branching: ExampleTraces, tmp_path: Path) -> None:
    config = settings(max_traces=320)
    assert trainer(branching, config, tmp_path).run().finished
    again = trainer(branching, config, tmp_path)
    assert again.run().finished
    assert again.train_set.read == 320 // 32


def test_a_checkpoint_of_other_settings_is_not_resumed(branching: ExampleTraces, tmp_path: Path) -> None:
    train(branching, settings(max_traces=640), tmp_path)
    other = settings(max_traces=320, learning_rate=1e-3)
    with pytest.raises(NetworkError, match="finished network that was trained on other data or with other settings"):
        train(branching, other, tmp_path)
    assert checkpoint.read_manifest(tmp_path)["training"]["traces"] == 640
    train(branching, other, tmp_path, force=True)
    assert checkpoint.read_manifest(tmp_path)["training"]["traces"] == 320


@pytest.mark.parametrize(
    ("output", "message"), [("file", "is a file"), ("file/below", "file is a file, expected a folder")]
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    branching: ExampleTraces, tmp_path: Path, output: str, message: str
) -> None:
    (tmp_path / "file").touch()
    nowhere = replace(branching, layers=tmp_path / "not read")
    with pytest.raises(StorageError, match=message):
        train(nowhere, settings(max_traces=320), tmp_path / output)


BUDGETS = {
    # no schedule depends on the budget
    "traces": ({"max_traces": 2240}, {"max_traces": LONGER}, {"schedule": "none", "noise_ramp_share": 0.0}),
    # both schedules follow max_traces, and max_minutes cuts short
    "minutes": ({"max_traces": LONGER, "max_minutes": 0.001}, {"max_traces": LONGER}, {"noise_ramp_share": 0.8}),
}


@pytest.mark.parametrize(("small", "large", "schedules"), BUDGETS.values(), ids=BUDGETS.keys())
def test_a_finished_training_is_extended_bit_for_bit(
    branching: ExampleTraces, tmp_path: Path, small: dict, large: dict, schedules: dict
) -> None:
    """As if it had had the larger budget from the start; the smaller budget ends in the middle of an epoch."""
    common = {"valid_every": 10, "learning_rate": 3e-3, **schedules}
    assert trainer(branching, settings(**large, **common), tmp_path / "straight").run().finished
    short = trainer(branching, settings(**small, **common), tmp_path / "extended").run()
    assert short.finished
    assert short.state.traces < LONGER
    longer = trainer(branching, settings(**large, **common), tmp_path / "extended")
    assert longer.run().finished
    assert longer.train_set.read == (LONGER - short.state.traces) // 32
    straight, extended = (checkpoint.load(tmp_path / name).state_dict() for name in ("straight", "extended"))
    assert all(torch.equal(value, extended[name]) for name, value in straight.items())
    columns = ("iteration", "traces", "epoch", "valid_loss", "learning_rate")
    expected, found = (
        {tuple(getattr(row, name) for name in columns) for row in read_history(tmp_path / folder / "history.csv")}
        for folder in ("straight", "extended")
    )
    # the smaller budget ended with a validation of its own
    assert {row for row in found if row[0] != short.state.iteration or row in expected} == expected


def test_an_extended_training_follows_the_schedule_of_the_larger_budget(
    branching: ExampleTraces, tmp_path: Path
) -> None:
    """What was learned at the rates of the smaller budget stays; from there on the rates are the larger one's."""
    budgets = [settings(max_traces=traces, valid_every=1, warmup_iterations=0) for traces in (320, 640)]
    histories = []
    for config in budgets:
        train(branching, config, tmp_path)
        histories.append(read_history(tmp_path / "history.csv"))
    assert histories[1][:10] == histories[0]
    shares = [
        *(done / 320 for done in range(0, 320, 32)),
        *(done / 640 for done in range(320, 640, 32)),
    ]
    expected = [learning_rate(budgets[0].training, number, share) for number, share in enumerate(shares)]
    assert [row.learning_rate for row in histories[1]] == expected


def test_a_training_that_the_time_limit_ends_before_its_traces_says_so(
    branching: ExampleTraces, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer(branching, settings(max_traces=10**9, max_minutes=0.001), tmp_path / "time").run()
    assert "ended by training.max_minutes: 0.001 after " in caplog.text
    assert "of training.max_traces: 1,000,000,000" in caplog.text
    caplog.clear()
    trainer(branching, settings(max_traces=64, max_minutes=60), tmp_path / "traces").run()
    assert "ended by" not in caplog.text


def test_a_warmup_longer_than_the_training_is_reported(
    branching: ExampleTraces, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer(branching, settings(max_traces=64, warmup_iterations=1000), tmp_path / "long").run()
    assert (
        "of training.warmup_iterations: 1,000, before the learning rate reached training.learning_rate" in caplog.text
    )
    caplog.clear()
    trainer(branching, settings(max_traces=64, warmup_iterations=1), tmp_path / "short").run()
    assert "warmup_iterations" not in caplog.text


def test_a_training_killed_before_its_network_was_written_only_writes_it(
    branching: ExampleTraces, tmp_path: Path
) -> None:
    config = settings(max_minutes=0.01)
    assert trainer(branching, config, tmp_path, stop_at(3)).run().state.elapsed_s > 0
    killed = trainer(branching, config, tmp_path, lambda _: (tmp_path / "tensors.pt").mkdir(exist_ok=True))
    with pytest.raises(StorageError, match=r"tensors\.pt: cannot be written"):
        killed.run()  # after its last checkpoint
    (tmp_path / "tensors.pt").rmdir()
    ended = checkpoint.read_manifest(tmp_path / "checkpoint")["training"]["state"]
    assert ended["elapsed_s"] >= 0.6  # of both calls
    assert trainer(branching, config, tmp_path).run().state.iteration == ended["iteration"]
    assert checkpoint.read_manifest(tmp_path)["training"]["iterations"] == ended["iteration"]


def test_a_full_disk_keeps_the_last_checkpoint(branching: ExampleTraces, tmp_path: Path) -> None:
    """A checkpoint is written after every iteration; that of the ninth or a later one does not fit."""
    config = settings(max_traces=640, checkpoint_minutes=1e-9)
    assert trainer(branching, config, tmp_path / "straight").run().finished
    with ExitStack() as full:

        def fill(number: int) -> None:
            if number == 10:
                full.enter_context(files_end_at(10_000))

        with pytest.raises(StorageError, match=r"phases\.h5: cannot be written \(File too large\)") as failed:
            trainer(branching, config, tmp_path / "full", fill).run()
    kept = checkpoint.read_manifest(tmp_path / "full" / "checkpoint")["training"]["state"]["iteration"]
    assert 7 <= kept <= 10  # up to three minibatches are read ahead of the update
    assert str(failed.value).endswith(
        "\n  The training since the last checkpoint is lost (1 iteration). The same command continues from iteration "
        f"{kept} in {tmp_path / 'full' / 'checkpoint'}."
    )
    assert not list((tmp_path / "full").rglob("*.tmp"))
    resumed = trainer(branching, config, tmp_path / "full")
    assert resumed.run().finished
    assert resumed.train_set.read == 20 - kept
    straight, full = (checkpoint.load(tmp_path / name).state_dict() for name in ("straight", "full"))
    assert all(torch.equal(value, full[name]) for name, value in straight.items())


class WithNan:
    """A dataset whose n-th minibatch contains an observation that is not finite."""

    def __init__(self, dataset: object, read: int) -> None:
        self.dataset, self.left = dataset, read

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: np.ndarray, noise_seed: tuple[int, ...], noise_scale: float = 1.0) -> object:
        self.left -= 1
        batch = self.dataset.batch(indices, noise_seed, noise_scale)
        if self.left == 0:
            batch.observation[3] = np.nan
            self.spoiled = int(indices[3])
        return batch


def test_a_gradient_that_is_not_finite_is_an_error_and_changes_nothing(gaussian: ExampleTraces, tmp_path: Path) -> None:
    config = settings(max_traces=3200)
    training = trainer(gaussian, config, tmp_path)
    training.train_set = WithNan(training.train_set, 5)
    with pytest.raises(NetworkError, match="iteration 5: rank 0: the loss is not finite") as error:
        training.run()
    where = re.search(r"training trace (\d+), first at address (\S+); lower training", str(error.value))
    assert where is not None
    assert int(where[1]) == training.train_set.spoiled
    assert where[2] == training.network.layers.rows[0].address
    assert all(torch.isfinite(value).all() for value in training.network.state_dict().values())
    assert not (tmp_path / "manifest.json").exists()


def test_the_input_is_scaled_by_its_spread_where_the_noise_is_unknown(gaussian: ExampleTraces) -> None:
    layers = LayerTable.load(gaussian.layers)
    network = ProposalNetwork(layers, SMALL)
    initialise.initialise_from_data(network, prepare.TraceDataset(gaussian.train, layers))
    for scale in network.observation.scales:  # both observations have mean 1 and variance 5 + 2
        assert float(scale.shift) == pytest.approx(1.0, abs=5 * math.sqrt(7 / 1024))
        assert float(scale.scale) == pytest.approx(math.sqrt(7), rel=0.12)


def test_observations_are_scaled_each_by_itself_and_vectors_element_by_element() -> None:
    layouts = [ObservationLayout("image", (4, 5), 0.1), ObservationLayout("vector", (3,), None)]
    layers = LayerTable([], layouts)
    shift, scale = np.array([0.0, 1e3, -2.0]), np.array([1.0, 1e-2, 1e4])
    rng = np.random.default_rng(0)

    class Drawn:
        def __len__(self) -> int:
            return 1000

        def batch(self, indices: np.ndarray, noise_seed: tuple[int, ...]) -> Minibatch:
            batch = random_batch(layers, (), [0] * len(indices), rng)
            batch.observation[:, :20] = 3.0 + 7.0 * batch.observation[:, :20]
            batch.observation[:, 20:] = shift + scale * batch.observation[:, 20:]
            return batch

    network = ProposalNetwork(layers, SMALL)
    initialise.initialise_from_data(network, Drawn())
    image, vector = network.observation.scales
    mcse = 1 / math.sqrt(1000)
    assert float(image.shift) == pytest.approx(3.0, abs=4 * 7.0 * mcse)
    assert float(image.scale) == pytest.approx(7.0, rel=4 * mcse)
    np.testing.assert_array_less(abs(vector.shift.numpy() - shift) / scale, 4 * mcse)
    np.testing.assert_allclose(vector.scale.numpy(), scale, rtol=4 * mcse)


def test_the_network_sees_only_the_observation_that_is_conditioned_on(gaussian: ExampleTraces, tmp_path: Path) -> None:
    def named(name: str) -> Config:
        config = settings(max_traces=64)
        return config.model_copy(update={"observation": config.observation.model_copy(update={"name": name})})

    network = train(gaussian, named("obs1"), tmp_path)
    assert network.layers.observations == (ObservationLayout("obs1", (), None),)
    with pytest.raises(ConfigError, match=r"observation.name: .*no observe statement 'obs2'.*'obs0', 'obs1'"):
        train(gaussian, named("obs2"), tmp_path / "other")


def test_an_image_is_scaled_by_its_noise_and_categoricals_start_at_their_frequencies() -> None:
    probs = (0.7, 0.1, 0.2)
    layers = layer_table((Categorical(probs),), 1, (20, 20, 20))
    rng = np.random.default_rng(0)

    class Drawn:
        def __len__(self) -> int:
            return 1000

        def batch(self, indices: np.ndarray, noise_seed: tuple[int, ...]) -> Minibatch:
            return random_batch(layers, (Categorical(probs),), [1] * len(indices), rng)

    network = ProposalNetwork(layers, SMALL)
    initialise.initialise_from_data(network, Drawn())
    assert float(network.observation.scales[0].scale) == 0.5
    bias = network.tables["Categorical3_out_bias"][0]
    mcse = np.sqrt(np.array(probs) * (1 - np.array(probs)) / 1000)
    assert (abs(torch.softmax(bias, 0).numpy() - probs) < 4 * mcse + 1e-3).all()


def test_loss_of_a_dataset_is_that_of_its_traces(gaussian: ExampleTraces, trained: Path) -> None:
    network = checkpoint.load(trained)
    dataset = prepare.TraceDataset(gaussian.valid, network.layers)
    batch = dataset.batch(np.arange(64), (5,))
    total, parts = network.loss(batch)
    assert float(total.detach()) == pytest.approx(-log_proposals(network, batch).sum(), rel=1e-5)
    assert set(parts) == {"Normal"}


def test_the_number_of_ranks_is_checked(gaussian: ExampleTraces, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected 3 ranks"):
        prepare.train(settings(), gaussian.layers, gaussian.train, gaussian.valid, tmp_path, MPI.COMM_SELF, 3)


def test_data_of_another_model_are_an_error(gaussian: ExampleTraces, branching: ExampleTraces, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected an observe statement 'obs0', found \['obs'\]"):
        prepare.train(settings(), gaussian.layers, branching.train, gaussian.valid, tmp_path, MPI.COMM_SELF)


def test_layers_of_another_build_are_an_error(gaussian: ExampleTraces) -> None:
    other = layer_table((Normal(1.0, 2.0),), 1, (2,))
    with pytest.raises(NetworkError, match=r"observations {'y': \(2,\)}, the dataset has {'obs0': \(\), 'obs1': \(\)}"):
        prepare.require_dataset_fits(other, prepare.TraceDataset(gaussian.train), gaussian.train)
    other = LayerTable(other.rows, LayerTable.load(gaussian.layers).observations, "another")
    with pytest.raises(NetworkError, match="simulator build another"):
        prepare.require_dataset_fits(other, prepare.TraceDataset(gaussian.train), gaussian.train)


def test_a_loss_that_stays_where_it_is_ends_the_training(
    branching: ExampleTraces, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a tiny learning rate no validation is better than the first by more than rounding."""
    caplog.set_level("INFO")
    config = settings(max_traces=TRAIN * 8, learning_rate=1e-9, learning_rate_end=0.0, valid_every=2, patience=3)
    first = trainer(branching, config, tmp_path)
    assert first.run().finished
    assert first.state.traces < TRAIN
    assert "ended by training.patience: 3 validations" in caplog.text
    losses = [row.valid_loss for row in read_history(tmp_path / "history.csv")]
    assert min(losses[-3:]) >= min(losses[:-3])
    # it has ended: the same command trains no further
    assert trainer(branching, config, tmp_path).run().state.iteration == first.state.iteration


def test_the_saved_network_is_the_average_of_the_weights(branching: ExampleTraces, tmp_path: Path) -> None:
    """Against a dense average of the weights after every iteration, with a resumption; the average is validated."""
    plain = {"max_traces": 640, "valid_every": 7, "learning_rate": 1e-2}
    after: list[dict[str, torch.Tensor]] = []
    straight = trainer(branching, settings(**plain), tmp_path / "plain")
    advance = straight._advance

    def watched(*arguments: object) -> None:
        after.append({name: value.clone() for name, value in straight.network.state_dict().items()})
        advance(*arguments)

    straight._advance = watched
    assert straight.run().finished
    averaged = settings(**plain, average_decay=0.8)
    assert not trainer(branching, averaged, tmp_path / "average", stop_at(11)).run().finished
    last = trainer(branching, averaged, tmp_path / "average")
    outcome = last.run()
    saved = checkpoint.load(tmp_path / "average").state_dict()
    weights = np.array([0.8 ** (len(after) - 1 - i) for i in range(len(after))])
    for name, value in saved.items():
        expected = sum(w * state[name].double() for w, state in zip(weights / weights.sum(), after, strict=True))
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
    # the weights that are trained are the same with and without the average
    for name, value in last.network.state_dict().items():
        assert torch.equal(value, after[-1][name])
    network = checkpoint.load(tmp_path / "average")
    dataset = prepare.TraceDataset(branching.valid, network.layers)
    batch = dataset.batch(np.arange(VALID), last.valid_noise_seed)
    assert outcome.state.history[-1].valid_loss == pytest.approx(-log_proposals(network, batch).sum() / VALID, rel=1e-5)


def events_of(folder: Path) -> dict[tuple[str, int], float]:
    """Return the numbers of event files by name and step; void ones are dropped, as TensorBoard does."""
    found: dict[tuple[str, int], float] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        start = 0
        while start < len(content):  # length, its checksum, event, its checksum
            (length,) = struct.unpack_from("<Q", content, start)
            event = Event.FromString(content[start + 12 : start + 12 + length])
            start += 16 + length
            if event.session_log.status == SessionLog.START:
                found = {key: value for key, value in found.items() if key[1] < event.step}
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    return found


def test_the_history_is_written_for_tensorboard(
    gaussian: ExampleTraces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1.8e9)  # both trainings within a second
    for traces in (TRAIN, 2 * TRAIN):  # the second one goes on from the first
        train(gaussian, settings(max_traces=traces, schedule="none", tensorboard="scalars"), tmp_path)
    rows = read_history(tmp_path / "history.csv")
    found = events_of(tmp_path / "tensorboard")
    assert {step for _, step in found} == {row.iteration for row in rows}
    for row in rows:
        assert found["loss/valid", row.iteration] == pytest.approx(row.valid_loss, rel=1e-6)
        assert found["loss/prior", row.iteration] == pytest.approx(row.prior_loss, rel=1e-6)
        assert found["time/backward", row.iteration] == pytest.approx(row.backward_share, rel=1e-6)
        assert found["learning_rate", row.iteration] == pytest.approx(row.learning_rate, rel=1e-6)


def test_tensorboard_needs_its_package(
    gaussian: ExampleTraces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(NetworkError, match=r"expected the package tensorboardX.*pip install 'etalumis\[tensorboard\]'"):
        train(gaussian, settings(max_traces=TRAIN, tensorboard="scalars"), tmp_path)
