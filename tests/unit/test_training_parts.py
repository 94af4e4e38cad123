# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sampler, schedule, optimizer and history, each alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from system_errors import fail_to_read

from etalumis.config import TrainingConfig, from_mapping
from etalumis.errors import ConfigError, NetworkError, StorageError
from etalumis.training.epoch_order import EpochOrder, epoch_order
from etalumis.training.history import HistoryRow, read_history, write_history
from etalumis.training.optimizer import Optimizer, RowGradient, clip
from etalumis.training.sampler import Position, Sampler
from etalumis.training.schedule import budget_spent, learning_rate, noise_scale, out_of_patience


@given(size=st.integers(12, 400), batch=st.integers(1, 4), ranks=st.integers(1, 3), seed=st.integers(0, 9))
def test_each_trace_occurs_once_per_epoch(size: int, batch: int, ranks: int, seed: int) -> None:
    samplers = [Sampler(size, batch, ranks, seed) for _ in range(ranks)]
    position, seen = Position(), []
    while position.epoch == 0:
        parts = [sampler.indices(position, rank) for rank, sampler in enumerate(samplers)]
        assert {len(part) for part in parts} == {batch}
        seen += np.concatenate(parts).tolist()
        position = samplers[0].advance(position)
    assert len(set(seen)) == len(seen) == size // (batch * ranks) * batch * ranks
    assert position == Position(1, 0)


def test_the_global_batch_does_not_depend_on_the_number_of_ranks() -> None:
    one, two = Sampler(100, 8, 1, 3), Sampler(100, 4, 2, 3)
    position = Position(2, 16)
    dealt = np.concatenate([two.indices(position, rank) for rank in range(2)])
    assert set(dealt) == set(one.indices(position, 0))


def test_a_position_of_fewer_ranks_gives_full_minibatches() -> None:
    two, four = Sampler(150, 16, 2, 3), Sampler(150, 16, 4, 3)
    position, fitted = Position(), []
    while position.epoch == 0:
        fitted.append(four.full_batch_from(position))
        assert {len(four.indices(fitted[-1], rank)) for rank in range(4)} == {16}
        position = two.advance(position)
    assert fitted == [Position(0, 0), Position(0, 32), Position(0, 64), Position(1, 0)]


def test_an_order_keeps_windows_of_chunks_together() -> None:
    order = epoch_order(1000, seed=1, epoch=0, chunk=10, window=5)
    assert sorted(order) == list(range(1000))
    for start in range(0, 1000, 50):
        assert len(np.unique(order[start : start + 50] // 10)) == 5
    assert not np.array_equal(order, epoch_order(1000, seed=1, epoch=1, chunk=10, window=5))


@given(size=st.integers(1, 300), chunk=st.integers(1, 9), window=st.integers(1, 7), data=st.data())
def test_a_slice_of_an_order_is_that_of_the_whole_order(
    size: int, chunk: int, window: int, data: st.DataObject
) -> None:
    whole = epoch_order(size, seed=4, epoch=1, chunk=chunk, window=window)
    assert sorted(whole) == list(range(size))
    order = EpochOrder(size, seed=4, epoch=1, chunk=chunk, window=window)
    for _ in range(3):
        start, stop = sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size))))
        assert order.slice(start, stop).tolist() == whole[start:stop].tolist()


def test_an_order_keeps_few_windows_in_memory() -> None:
    order = EpochOrder(10_000, seed=1, epoch=0, chunk=10, window=5)
    for start in range(0, 10_000, 64):
        order.slice(start, min(start + 64, 10_000))
        assert sum(len(window) for window in order._windows.values()) <= 150


def test_a_training_set_smaller_than_a_batch_is_an_error() -> None:
    with pytest.raises(ConfigError, match="needs 64 traces, the training set has 63"):
        Sampler(63, 32, 2, 0)


def config(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{"learning_rate": 1.0, "learning_rate_end": 0.1, "warmup_iterations": 0, **changes})


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("none", [1, 1, 1, 1]),
        ("multistep", [1, 0.1, 0.01, 0.01]),
        ("polynomial1", [1, 0.55, 0.325, 0.1]),
        ("polynomial2", [1, 0.325, 0.15625, 0.1]),
    ],
)
def test_schedules(schedule: str, rates: list[float]) -> None:
    found = [learning_rate(config(schedule=schedule), 10**6, share) for share in (0.0, 0.5, 0.75, 1.0)]
    assert found == pytest.approx(rates)


def test_milestones_divide_the_rate_by_ten() -> None:
    steps = config(schedule="multistep", milestones=(0.2, 0.9))
    assert [learning_rate(steps, 10**6, x) for x in (0.1, 0.2, 0.8, 0.9, 1.0)] == pytest.approx(
        [1, 0.1, 0.1, 0.01, 0.01]
    )


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("sqrt", 4), ("linear", 16)])
def test_the_learning_rate_scales_with_the_ranks(scaling: str, factor: float) -> None:
    for schedule in ("none", "polynomial2"):
        scaled = config(schedule=schedule, learning_rate_scaling=scaling)
        one, many = (learning_rate(scaled, 10**6, 0.3, ranks) for ranks in (1, 16))
        assert many == pytest.approx(factor * one)


@pytest.mark.parametrize(
    ("losses", "over"),
    [([3, 2], False), ([3, 2, 2.5], False), ([3, 2, 2.5, 2.1], True), ([3, 2, 2.5, 1.9], False), ([3, 2, 2, 2], True)],
)
def test_patience_ends_after_validations_that_are_no_better(losses: list[float], over: bool) -> None:
    assert out_of_patience(config(patience=2), losses) is over
    assert not out_of_patience(config(), losses)


def test_warm_up_rises_linearly() -> None:
    warm = config(schedule="none", warmup_iterations=4)
    assert [learning_rate(warm, i, 0.0) for i in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_the_noise_rises_to_its_full_size_and_stays():
    ramp = config(noise_start=0.2, noise_ramp_share=0.5)
    assert [noise_scale(ramp, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx([0.2, 0.6, 1, 1, 1])
    assert noise_scale(config(noise_ramp_share=0.0), 0.0) == 1.0


def test_the_budget_is_spent_by_time_or_traces() -> None:
    both = config(max_minutes=1.0, max_traces=1000)
    assert budget_spent(both, 250, 12.0) == pytest.approx(0.25)
    assert budget_spent(both, 250, 30.0) == pytest.approx(0.5)
    assert budget_spent(config(max_minutes=1.0), 10**9, 30.0) == pytest.approx(0.5)
    assert budget_spent(config(max_traces=1000), 250, 1e9) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("given", "minutes", "traces"),
    [
        ({}, 10.0, None),
        ({"max_minutes": None, "max_traces": None}, 10.0, None),
        ({"max_minutes": 3.0}, 3.0, None),
        ({"max_traces": 10**6}, None, 10**6),
        ({"max_minutes": 3.0, "max_traces": 10**6}, 3.0, 10**6),
    ],
)
def test_a_budget_in_one_unit_has_no_limit_in_the_other(
    given: dict[str, object], minutes: float | None, traces: int | None
) -> None:
    budget = from_mapping({"training": given}).training
    assert (budget.max_minutes, budget.max_traces) == (minutes, traces)
    assert from_mapping({"training": budget.model_dump()}).training == budget


def random_gradients(seed: int, rows: list[int]) -> tuple[dict[str, torch.Tensor], dict[str, RowGradient]]:
    generator = torch.Generator().manual_seed(seed)
    dense = {"d": torch.randn(3, 2, generator=generator)}
    return dense, {"t": RowGradient(torch.tensor(rows), torch.randn(len(rows), 4, generator=generator))}


def test_adam_over_rows_is_adam_per_row_with_its_own_steps() -> None:
    """Against torch.optim.Adam on one parameter per row, updated only when the row is touched."""
    dense, table = torch.randn(3, 2), torch.randn(3, 4)
    rows = [torch.nn.Parameter(row.clone()) for row in table]
    plain = torch.nn.Parameter(dense.clone())
    optimizer = Optimizer("adam", {"d": dense}, {"t": table})
    optimizers = [torch.optim.Adam([p], lr=0.01) for p in (*rows, plain)]
    for step, touched in enumerate([[0, 1], [1], [0, 2], [1, 2], [0]]):
        dense_gradient, row_gradient = random_gradients(step, touched)
        plain.grad = dense_gradient["d"].clone()
        optimizers[-1].step()
        for place, row in enumerate(touched):
            rows[row].grad = row_gradient["t"].value[place].clone()
            optimizers[row].step()
        optimizer.step(dense_gradient, row_gradient, 0.01)
    torch.testing.assert_close(dense, plain.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(table, torch.stack([row.detach() for row in rows]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["adam", "adam_larc", "sgd", "sgd_larc"])
def test_untouched_rows_do_not_change_and_a_restored_optimizer_continues(rule: str) -> None:
    def start() -> tuple[dict[str, torch.Tensor], Optimizer]:
        torch.manual_seed(0)
        parameters = {"d": torch.randn(3, 2), "t": torch.randn(5, 4)}
        return parameters, Optimizer(rule, {"d": parameters["d"]}, {"t": parameters["t"]})

    parameters, optimizer = start()
    untouched = parameters["t"][[1, 3]].clone()
    for step in range(3):
        optimizer.step(*random_gradients(step, [0, 2, 4]), 0.01)
    assert torch.equal(parameters["t"][[1, 3]], untouched)
    again, resumed = start()
    for name, value in parameters.items():
        again[name].copy_(value)
    resumed.restore({part: {n: t.clone() for n, t in tensors.items()} for part, tensors in optimizer.state().items()})
    for known, stepped in ((parameters, optimizer), (again, resumed)):
        stepped.step(*random_gradients(9, [1, 2]), 0.01)
        assert not torch.equal(known["t"][1], untouched[0])
    assert all(torch.equal(parameters[name], again[name]) for name in parameters)


def test_momentum_and_betas_are_those_of_torch() -> None:
    """Against torch's SGD and Adam on one dense parameter."""
    start = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    for rule, settings, reference in (
        ("sgd", {"momentum": 0.5}, lambda p: torch.optim.SGD([p], lr=0.01, momentum=0.5)),
        ("adam", {"betas": (0.8, 0.95)}, lambda p: torch.optim.Adam([p], lr=0.01, betas=(0.8, 0.95))),
    ):
        own, plain = start.clone(), torch.nn.Parameter(start.clone())
        optimizer, torch_optimizer = Optimizer(rule, {"d": own}, {}, **settings), reference(plain)
        for step in range(4):
            gradient = random_gradients(step, [0])[0]["d"]
            optimizer.step({"d": gradient}, {}, 0.01)
            plain.grad = gradient.clone()
            torch_optimizer.step()
        torch.testing.assert_close(own, plain.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trust", [0.02, 0.005])
@pytest.mark.parametrize("rule", ["adam_larc", "sgd_larc"])
def test_larc_bounds_the_step_of_every_parameter(rule: str, trust: float) -> None:
    generator = torch.Generator().manual_seed(4)
    table = torch.randn(3, 4, generator=generator)
    optimizer = Optimizer(rule, {}, {"t": table}, trust=trust)
    for _ in range(3):  # momentum too
        before = table.clone()
        gradient = RowGradient(torch.arange(3), 1e6 * torch.randn(3, 4, generator=generator))
        optimizer.step({}, {"t": gradient}, 0.5)
        moved, size = (table - before).norm(dim=1), before.norm(dim=1)
        torch.testing.assert_close(moved, trust * size, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_larc_leaves_short_steps_and_parameters_at_zero_alone(rule: str) -> None:
    starts = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    tables = {name: starts.clone() for name in (rule, f"{rule}_larc")}
    for name, table in tables.items():
        Optimizer(name, {}, {"t": table}).step({}, {"t": RowGradient(torch.arange(2), torch.ones(2, 2))}, 1e-3)
    assert torch.equal(*tables.values())
    assert not torch.equal(tables[rule], starts)


def test_clip_scales_to_the_joint_norm() -> None:
    gradients = [torch.full((2, 2), 3.0), torch.full((1,), 8.0)]
    assert clip(gradients, 5.0) == pytest.approx(10.0)
    assert float(torch.cat([g.flatten() for g in gradients]).norm()) == pytest.approx(5.0)
    assert clip(gradients, 50.0) == pytest.approx(5.0)
    assert float(gradients[1][0]) == pytest.approx(4.0)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [HistoryRow(i, 64 * i, 0, 1.5 * i, 3.0 / i, 2.5, 4.0, 1e-4, 90.0, *[0.2] * 5) for i in (1, 2)]
    write_history(tmp_path / "history.csv", rows)
    assert read_history(tmp_path / "history.csv") == rows
    # a file of an earlier version lacks the last columns
    lines = (tmp_path / "history.csv").read_text().splitlines()
    (tmp_path / "old.csv").write_text("".join(f"{line.rsplit(',', 2)[0]}\n" for line in lines))
    assert read_history(tmp_path / "old.csv") == rows
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for name, message in (("other.csv", "not a training history"), ("missing.csv", "no such training history")):
        with pytest.raises(NetworkError, match=message):
            read_history(tmp_path / name)
    reason = fail_to_read(tmp_path / "other.csv")
    with pytest.raises(StorageError, match=rf"cannot be read \({reason}\).* not damage"):
        read_history(tmp_path / "other.csv")


def test_a_window_of_a_sorted_set_has_every_type_in_its_share():
    """Types are sorted on disk, but each part of an epoch should contain them in their overall shares."""
    size, shares = 100_000, np.array([0.4, 0.3, 0.2, 0.06, 0.04])
    kinds = np.repeat(np.arange(len(shares)), (shares * size).astype(int))
    order = epoch_order(size, seed=3, epoch=0)
    assert np.array_equal(np.sort(order), np.arange(size))
    for seen in np.split(kinds[order], 10):
        found = np.bincount(seen, minlength=len(shares)) / len(seen)
        assert np.abs(found / shares - 1.0).max() < 0.35
