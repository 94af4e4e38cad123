# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The training loop: each rank reads its minibatch, gradients are summed, and all ranks apply the same update.

The loss is the mean over traces of -log q(x | y) in nats, with x in physical units (SC'19, section 4.2). Up to a
constant, it is the Monte Carlo estimate of E_p(y) KL(p(x | y) || q(x | y)). It can be compared with the loss of
proposing from the prior.
"""

import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI

from etalumis.config import TrainingConfig
from etalumis.counting import counted
from etalumis.errors import NetworkError
from etalumis.layers import LayerTable
from etalumis.network import checkpoint
from etalumis.network.flops import StepFlops
from etalumis.network.minibatch_plan import MinibatchPlan, plan_minibatch
from etalumis.network.model import ProposalNetwork
from etalumis.progress import Progress
from etalumis.seeds import derive
from etalumis.training.average import WeightAverage
from etalumis.training.cost_measurement import CostMeasurement
from etalumis.training.device import device_of
from etalumis.training.diagnosis import describe_gradient, describe_loss
from etalumis.training.evaluate import Evaluation, MinibatchSource, evaluate
from etalumis.training.gradients import MinibatchGradients
from etalumis.training.history_recorder import HistoryRecorder
from etalumis.training.minibatch_loader import MinibatchLoader
from etalumis.training.new_addresses import agree, appended, start_at_priors
from etalumis.training.optimizer import Optimizer, RowGradient, clip
from etalumis.training.phase_timer import PhaseTimer
from etalumis.training.phases import FILE as PHASES_FILE
from etalumis.training.remarks import finished_record, has_converged, log_end, progress_fields
from etalumis.training.sampler import Sampler, StreamOrder
from etalumis.training.schedule import (
    budget_spent,
    learning_rate,
    noise_scale,
    schedule_progress,
)
from etalumis.training.signals import StopSignal
from etalumis.training.start import initial_seed
from etalumis.training.state import TrainingState, load_state, losing, mark_finished, save_state
from etalumis.training.synchronize import Synchronizer
from etalumis.training.trace_kinds import TraceKinds
from etalumis.training.trace_stream import StreamedMinibatch, TraceStream
from etalumis.typing import Array

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a training ended. If a signal stopped it, `finished` is False, and it can be resumed from a checkpoint."""

    finished: bool
    state: TrainingState
    evaluation: Evaluation | None


class Trainer:
    """Trains a network in place. Create it on every rank of `comm` with the same arguments.

    Parameters
    ----------
    network
        The network, with the same parameters on every rank.
    train_set, valid_set
        Datasets with the layer table of the network; the former may be a stream of traces, each of which is used once.
    config
        Hyperparameters and budget.
    seed
        Run seed; it determines the order of the traces and their noise.
    output
        Output folder. It receives checkpoint/, from which the training is resumed or extended, and at the end
        manifest.json, tensors.pt, layers.json and history.csv. phases.h5 is written with the checkpoints.
    identity
        Digest of data, architecture and hyperparameters; only a checkpoint with the same identity is resumed.
    comm
        MPI communicator.
    kinds
        Types of the training traces; some samplers need them (`sampler.NEED_KINDS`).
    """

    def __init__(
        self,
        network: ProposalNetwork,
        train_set: MinibatchSource | TraceStream,
        valid_set: MinibatchSource,
        config: TrainingConfig,
        seed: int,
        output: Path,
        identity: str,
        comm: MPI.Comm,
        kinds: TraceKinds | None = None,
    ) -> None:
        device = device_of(config.device, comm)
        network.move(device)
        self.network, self.train_set, self.valid_set, self.config = network, train_set, valid_set, config
        self.output, self.identity, self.comm = output, identity, comm
        self.sampler = (
            StreamOrder(config.batch_size, comm.size)
            if isinstance(train_set, TraceStream)
            else Sampler(len(train_set), config.batch_size, comm.size, seed, config.sampler, kinds, config.buckets)
        )
        tables = dict(network.tables.items())
        self.optimizer = Optimizer(
            config.optimizer, network.dense(), tables, config.momentum, config.adam_betas, config.larc_trust
        )
        decay = config.average_decay
        self.average = None if decay is None else WeightAverage(decay, network.dense(), tables)
        self.ranks = Synchronizer(comm, network.grouping, tables)
        self.gradients = MinibatchGradients(
            network, self.ranks, config.sum_dtype, overlap=config.gradient_sum == "overlapped"
        )
        self._seed, self._network_seed = seed, initial_seed(seed)
        self.noise_seed = derive(seed, "training/noise", 0)
        self.valid_noise_seed = (derive(seed, "training/valid", 0),)
        self.state = TrainingState()
        self._saved_iteration = 0
        self.timer = PhaseTimer(comm, output / PHASES_FILE, 0, device)
        balanced = isinstance(self.sampler, Sampler) and self.sampler.way == "balanced"
        self._costs = CostMeasurement(self.ranks, balanced)
        self.flops = StepFlops(network)
        self._minibatch: tuple[MinibatchPlan, torch.Tensor, np.ndarray]
        self.evaluation: Evaluation | None = None
        self._recorder: HistoryRecorder

    def grow(self, layers: LayerTable) -> None:
        """Append rows for the new addresses of `layers`; the known rows and their state stay, bit for bit.

        All ranks call it together, with the same table.
        """
        self.network.grow(layers, self._network_seed)
        tables = dict(self.network.tables.items())
        self.optimizer.grow(tables)
        if self.average is not None:
            self.average.grow(tables)
        self.ranks.use(self.network.grouping, tables)
        for traces in (self.train_set, self.valid_set):
            traces.use_layers(layers)

    @property
    def checkpoint_folder(self) -> Path:
        """Folder of the checkpoint."""
        return self.output / "checkpoint"

    def run(self) -> Outcome:
        """Train until the budget is spent or a signal requests a stop.

        Raises
        ------
        NetworkError
            If the gradient is not finite; the last checkpoint is kept.
        StorageError
            If a file cannot be written; the last checkpoint is kept.
        """
        grow = self.grow if isinstance(self.train_set, TraceStream) else None
        saved = load_state(
            self.checkpoint_folder, self.network, self.optimizer, self.identity, self.config, self.average, grow
        )
        self.state = saved or self.state
        self._saved_iteration = self.state.iteration
        self.timer = PhaseTimer(self.comm, self.output / PHASES_FILE, self.state.iteration, self.network.device)
        self.state.position = self.sampler.full_batch_from(self.state.position)
        if self.state.iteration and self.comm.rank == 0:
            traces = counted(self.state.traces, "trace")
            logger.info("training resumes from iteration %d, %s", self.state.iteration, traces)
        self._recorder = HistoryRecorder(
            self.output, self.comm, self.ranks, self.config.tensorboard == "scalars", self.state.iteration
        )
        earlier_s, start, saved_s = self.state.elapsed_s, time.monotonic(), self.state.elapsed_s
        progress = Progress(None, "traces", "training", done=self.state.traces)
        with StopSignal() as stop, self._loader() as loader, self.gradients:
            stopped, rate = False, self._learning_rate()
            while not (stopped or self._is_over()):
                loss, rate, plan = self._step(loader)
                now = earlier_s + time.monotonic() - start if self.comm.rank == 0 else 0.0
                by_rank = np.zeros((self.comm.size, 2))
                by_rank[self.comm.rank] = loss, len(plan.tags)
                total = self.ranks.total(np.array([float(stop.requested), now, *by_rank.flat]))
                self.timer.lap("sync_wait")
                row = self.timer.end(len(plan.tags), len(plan), len(plan.touched), self.flops.of(plan))
                self._costs.add(row, self.state)
                if not math.isfinite(total[2::2].sum()):
                    raise self._diverged("the loss is not finite")
                self._advance(total[2:].reshape(by_rank.shape), total[1])
                stopped = total[0] > 0
                if self.state.iteration % self.config.valid_every == 0 or self.state.iteration == 1:
                    self._validate(rate)
                if self.state.elapsed_s - saved_s > 60.0 * self.config.checkpoint_minutes:
                    saved_s = self.state.elapsed_s
                    self._save()
                if self.comm.rank == 0:
                    noise = self._noise_scale(self.state.traces)
                    shown = progress_fields(self.config, self.state, rate, noise, self._recorder.by_rank, self.timer)
                    progress.update(self.sampler.global_batch, **shown)
            if not stopped and (not self.state.history or self.state.history[-1].iteration != self.state.iteration):
                self._validate(rate)
            self._save()
        if self.comm.rank == 0:
            progress.close()
        self._recorder.close()
        return self._end(finished=not stopped)

    def _is_over(self) -> bool:
        """Return whether the budget is spent, or the validation loss has not fallen for too long."""
        spent = budget_spent(self.config, self.state.traces, self.state.elapsed_s) >= 1.0
        return spent or has_converged(self.config, self.state)

    def _loader(self) -> MinibatchLoader:
        return MinibatchLoader(
            self.train_set,
            self.network,
            self.sampler,
            self.comm.rank,
            self.state,
            self.config,
            self.noise_seed,
            self._noise_scale,
        )

    def _step(self, loader: MinibatchLoader) -> tuple[float, float, MinibatchPlan]:
        """Do one iteration. Return the summed loss of this rank, the learning rate and the minibatch's plan."""
        timer = self.timer
        timer.begin()
        indices, batch, plan = loader.take()
        timer.lap("read")
        if isinstance(batch, StreamedMinibatch):
            indices, batch, plan = self._with_layers(batch, plan)
            timer.lap("sync_wait")
        unknown = -float(batch.log_prior[batch.layer < 0].sum())
        present = self.ranks.present(plan.touched)
        timer.lap("sync_wait")
        self._minibatch = plan, torch.empty(0), indices
        scale = 1.0 / self.sampler.global_batch
        log_q = self.gradients.compute(plan, batch.observation, present, scale, timer)
        self._minibatch = plan, log_q, indices
        dense, rows = self.gradients.summed(timer)
        rate = self._learning_rate()
        self._update(dense, rows, rate)
        timer.lap("update")
        return unknown - float(log_q.sum()), rate, plan

    def _with_layers(
        self, batch: StreamedMinibatch, plan: MinibatchPlan
    ) -> tuple[Array, StreamedMinibatch, MinibatchPlan]:
        """Make layers for the new addresses of all ranks; return the traces and the plan with these layers."""
        assert isinstance(self.train_set, TraceStream)
        if self.train_set.frozen:
            return batch.numbers, batch, plan
        new = agree(batch.new_addresses(self.network.layers), self.ranks)
        if new:
            self.grow(appended(self.network.layers, new))
            start_at_priors(self.network, new)
            if self.comm.rank == 0:
                added, all_of_them = counted(len(new), "new address", "new addresses"), len(self.network.layers)
                logger.info("iteration %d: %s, now %d layers", self.state.iteration + 1, added, all_of_them)
        if (batch.layer < 0).any():
            batch = batch.using(self.network.layers)
            plan = plan_minibatch(batch, self.network.grouping)
        return batch.numbers, batch, plan

    def _update(self, dense: dict[str, torch.Tensor], rows: dict[str, RowGradient], rate: float) -> None:
        """Apply the summed gradients. They are the same on all ranks, so all ranks raise if they are not finite."""
        max_norm = math.inf if self.config.gradient_clip is None else self.config.gradient_clip
        norm = clip([*dense.values(), *(row.value for row in rows.values())], max_norm)
        if not math.isfinite(norm):
            raise self._diverged(describe_gradient(dense, rows))
        number = self.state.iteration + 1
        touched = {name: gradient.rows for name, gradient in rows.items()}
        if self.average is not None:
            self.average.catch_up(number, touched)
        self.optimizer.step(dense, rows, rate)
        if self.average is not None:
            self.average.update(number, dense, touched)

    def _diverged(self, otherwise: str) -> NetworkError:
        """Return an error that names the traces and addresses of all ranks; `otherwise` if all their losses are finite.

        All ranks call it together.
        """
        plan, log_q, indices = self._minibatch
        found = self.comm.allgather(describe_loss(plan, log_q, indices, self.network.layers))
        where = "; ".join(f"rank {rank}: {text}" for rank, text in enumerate(found) if text) or otherwise
        return NetworkError(
            f"training: iteration {self.state.iteration + 1}: {where}; lower training.learning_rate or "
            "training.gradient_clip, and check the traces with `etalumis traces verify` "
            f"(the last checkpoint is kept: {self.checkpoint_folder})"
        )

    def _noise_scale(self, traces: int) -> float:
        """Return the factor of the noise after `traces` traces.

        With a budget in minutes, it depends on the time at which the minibatch is requested.
        """
        return noise_scale(self.config, schedule_progress(self.config, traces, self.state.elapsed_s))

    def _learning_rate(self) -> float:
        share = schedule_progress(self.config, self.state.traces, self.state.elapsed_s)
        return learning_rate(self.config, self.state.iteration, share, self.comm.size)

    def _advance(self, by_rank: np.ndarray, elapsed_s: float) -> None:
        """Count an iteration with the loss and the traces (rank, 2) of each rank."""
        state = self.state
        self._recorder.count(by_rank)
        state.iteration += 1
        state.traces += self.sampler.global_batch
        state.position = self.sampler.advance(state.position)
        state.elapsed_s = elapsed_s
        loss, kept = by_rank.sum(axis=0).tolist()
        state.loss_sum += loss
        state.loss_traces += int(kept)
        state.discarded += self.sampler.global_batch - int(kept)

    def _evaluate(self) -> Evaluation:
        """Return the losses over the validation set, of the averaged weights if there is an average."""
        with self._weights_to_save():
            return evaluate(
                self.network,
                self.valid_set,
                self.config.batch_size,
                self.valid_noise_seed,
                self.ranks,
                self.config.prefetch,
            )

    def _weights_to_save(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.in_place(self.state.iteration)

    def _validate(self, rate: float) -> None:
        """Add a row to the history, on all ranks."""
        self.evaluation = self._evaluate()
        self._recorder.add(self.state, self.evaluation, rate, len(self.network.layers), self.timer)

    def _save(self) -> None:
        """Write the phases and then the checkpoint, on rank 0 while the other ranks wait."""
        with losing(self.checkpoint_folder, self.state.iteration, self._saved_iteration):
            self.timer.write()
            if self.comm.rank == 0:
                save_state(
                    self.checkpoint_folder, self.network, self.optimizer, self.state, self.identity, self.average
                )
        self._saved_iteration = self.state.iteration
        self.comm.Barrier()

    def _end(self, finished: bool) -> Outcome:
        if finished and self.evaluation is None:  # resumed, and the budget was already spent
            self.evaluation = self._evaluate()
        if finished and self.comm.rank == 0:
            self._recorder.write(self.state)
            with self._weights_to_save():
                assert self.evaluation is not None
                record = finished_record(self.config, self.state, self.evaluation, self.network, self.comm.size)
                about = {"identity": self.identity, "online": isinstance(self.train_set, TraceStream)}
                checkpoint.save(self.output, self.network, {**about, "seed": self._seed, **record})
            mark_finished(self.checkpoint_folder)
            log_end(self.config, self.state)
        self.comm.Barrier()
        return Outcome(finished, self.state, self.evaluation)
