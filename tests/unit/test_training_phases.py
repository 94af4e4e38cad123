# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The file of phases: appending, resuming, what it costs; and the operations counted from shapes."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from synthetic_batches import PRIORS, SMALL, layer_table, random_batch
from system_errors import files_end_at
from torch.utils.flop_counter import FlopCounterMode

from etalumis.errors import DatasetError, StorageError
from etalumis.network import ProposalNetwork
from etalumis.network.flops import StepFlops
from etalumis.network.minibatch_plan import plan_minibatch
from etalumis.training.phases import COLUMNS, COUNTS, PHASES, Phases, append_phases, read_phases


def random_rows(iterations: int, ranks: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 10**6, (iterations, ranks, len(COLUMNS))).astype(float)


def columns(phases: Phases) -> np.ndarray:
    """All columns as (iteration, rank, column)."""
    return np.stack([*phases.seconds.values(), *(getattr(phases, name) for name in COUNTS)], 2)


def test_rows_are_read_as_they_were_appended(tmp_path: Path) -> None:
    path, rows = tmp_path / "phases.h5", random_rows(2500, 2)
    for start, stop in ((0, 3), (3, 1030), (1030, 2500)):
        append_phases(path, start, rows[start:stop])
    found = read_phases(path)
    assert list(found.seconds) == list(PHASES)
    assert found.seconds["read"].dtype == np.float64
    assert found.flops.dtype == np.int64
    np.testing.assert_array_equal(columns(found), rows)
    np.testing.assert_array_equal(found.iteration, np.arange(1, 2501))
    # 80 bytes for each iteration and rank, in whole chunks; what was reserved for an append was released
    assert path.stat().st_size < 80 * 2 * 3 * 1024 + 100_000


def test_an_earlier_iteration_replaces_what_follows_it(tmp_path: Path) -> None:
    path, rows, again = tmp_path / "phases.h5", random_rows(10, 2), random_rows(3, 2, seed=1)
    append_phases(path, 0, rows)
    append_phases(path, 4, again)
    found = read_phases(path)
    np.testing.assert_array_equal(columns(found), np.concatenate([rows[:4], again]))
    np.testing.assert_array_equal(found.iteration, np.arange(1, 8))
    append_phases(path, 0, again)
    np.testing.assert_array_equal(columns(read_phases(path)), again)


def test_a_resumption_with_other_ranks_leaves_gaps(tmp_path: Path) -> None:
    path, two, one, three = tmp_path / "phases.h5", random_rows(4, 2), random_rows(2, 1), random_rows(2, 3)
    for after, rows in ((0, two), (2, one), (4, three)):
        append_phases(path, after, rows)
    found = columns(read_phases(path))
    np.testing.assert_array_equal(found[:2, :2], two[:2])
    np.testing.assert_array_equal(found[2:4, :1], one)
    np.testing.assert_array_equal(found[4:], three)
    for absent in (found[:2, 2:], found[2:4, 1:]):
        assert np.isnan(absent[..., : len(PHASES)]).all()
        assert (absent[..., len(PHASES) :] == 0).all()


def test_the_best_time_has_the_mean_work_of_the_ranks(tmp_path: Path) -> None:
    """Two iterations of two ranks; what the ranks wait and move does not count."""
    rows = np.zeros((2, 2, len(COLUMNS)))
    for phase, seconds in (("read", 0.5), ("forward", 1.0), ("backward", 2.0), ("update", 0.5)):
        rows[..., PHASES.index(phase)] = seconds
    rows[0, 1, PHASES.index("backward")] = 4.0  # 6 s against 4 s
    rows[..., PHASES.index("sync_wait")] = 100.0
    append_phases(tmp_path / "phases.h5", 0, rows)
    found = read_phases(tmp_path / "phases.h5")
    assert found.actual_s() == pytest.approx(6.0 + 4.0)
    assert found.best_s() == pytest.approx(5.0 + 4.0)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path, rows = tmp_path / "phases.h5", random_rows(5, 2)
    append_phases(path, 0, rows)
    with files_end_at(path.stat().st_size + 1000), pytest.raises(StorageError, match=r"phases\.h5: cannot be written"):
        append_phases(path, 5, rows)
    np.testing.assert_array_equal(columns(read_phases(path)), rows)
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "phases.h5"
    with pytest.raises(DatasetError, match="no such file of phases"):
        read_phases(path)
    append_phases(path, 0, random_rows(1024, 1))
    with h5py.File(path) as file:
        place = file["forward"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"phases\.h5: the file cannot be read: it is truncated, altered"):
        read_phases(path)
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "other"
    for refuse in (read_phases, lambda path: append_phases(path, 1, random_rows(1, 1))):
        with pytest.raises(DatasetError, match="expected a file of format 'etalumis-phases', version 1, found 'other'"):
            refuse(path)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [({}, (3,)), ({"lstm_layers": 3, "value_frequencies": 0}, (20, 20, 20)), ({"embedding": "strided"}, (9, 12))],
)
def test_operations_from_shapes_are_those_that_torch_executes(changes: dict, shape: tuple[int, ...]) -> None:
    """Against a count of every matrix product and convolution that forward and backward pass call."""
    layers = layer_table(PRIORS, 2, shape)
    network = ProposalNetwork(layers, SMALL.model_copy(update=changes))
    batch = random_batch(layers, PRIORS, [5, 1, 3, 3, 8], np.random.default_rng(1), unknown=0.1)
    plan = plan_minibatch(batch, network.grouping)
    flops = StepFlops(network)
    with FlopCounterMode(display=False) as counter:
        network.log_proposal(plan, torch.from_numpy(batch.observation), network.leaves(plan)).sum().backward()
    assert flops.of(plan) == counter.get_total_flops()


def test_counting_operations_leaves_the_network_alone() -> None:
    network = ProposalNetwork(layer_table(PRIORS, 1, (20, 20, 20)), SMALL)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3, generator=None)
    torch.manual_seed(5)
    StepFlops(network)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
