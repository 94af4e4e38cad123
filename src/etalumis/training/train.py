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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI

from etalumis.config import TrainingConfig
from etalumis.counting import counted
from etalumis.errors import NetworkError
from etalumis.network import checkpoint
from etalumis.network.flops import StepFlops
from etalumis.network.minibatch_plan import MinibatchPlan
from etalumis.network.model import ProposalNetwork
from etalumis.progress import Progress, duration
from etalumis.seeds import derive
from etalumis.training.evaluate import Evaluation, MinibatchSource, evaluate
from etalumis.training.history import HistoryRow, write_history
from etalumis.training.minibatch_loader import MinibatchLoader
from etalumis.training.optimizer import Optimizer, RowGradient, clip
from etalumis.training.phase_timer import PhaseTimer
from etalumis.training.phases import FILE as PHASES_FILE
from etalumis.training.phases import PHASES
from etalumis.training.sampler import Sampler
from etalumis.training.schedule import budget_spent, learning_rate, noise_scale, schedule_progress
from etalumis.training.signals import StopSignal
from etalumis.training.state import TrainingState, load_state, losing, mark_finished, save_state
from etalumis.training.synchronize import Synchronizer

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
        Datasets with the layer table of the network.
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
    """

    def __init__(
        self,
        network: ProposalNetwork,
        train_set: MinibatchSource,
        valid_set: MinibatchSource,
        config: TrainingConfig,
        seed: int,
        output: Path,
        identity: str,
        comm: MPI.Comm,
    ) -> None:
        self.network, self.train_set, self.valid_set, self.config = network, train_set, valid_set, config
        self.output, self.identity, self.comm = output, identity, comm
        self.sampler = Sampler(len(train_set), config.batch_size, comm.size, seed)
        tables = dict(network.tables.items())
        self.optimizer = Optimizer(config.optimizer, network.dense(), tables)
        self.ranks = Synchronizer(comm, network.grouping, tables)
        self.noise_seed = derive(seed, "training/noise", 0)
        self.valid_noise_seed = (derive(seed, "training/valid", 0),)
        self.state = TrainingState()
        self._saved_iteration = 0
        self.timer = PhaseTimer(comm, output / PHASES_FILE, 0)
        self.flops = StepFlops(network)
        self._own_loss, self._largest_loss = 0.0, math.nan
        self.evaluation: Evaluation | None = None

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
        saved = load_state(self.checkpoint_folder, self.network, self.optimizer, self.identity, self.config)
        self.state = saved or self.state
        self._saved_iteration = self.state.iteration
        self.timer = PhaseTimer(self.comm, self.output / PHASES_FILE, self.state.iteration)
        self.state.position = self.sampler.full_batch_from(self.state.position)
        if self.state.iteration and self.comm.rank == 0:
            traces = counted(self.state.traces, "trace")
            logger.info("training resumes from iteration %d, %s", self.state.iteration, traces)
        earlier_s, start, saved_s = self.state.elapsed_s, time.monotonic(), self.state.elapsed_s
        progress = Progress(None, "traces", "training", done=self.state.traces)
        with StopSignal() as stop, self._loader() as loader:
            stopped, rate = False, self._learning_rate()
            while not stopped and budget_spent(self.config, self.state.traces, self.state.elapsed_s) < 1.0:
                loss, rate, plan = self._step(loader)
                now = earlier_s + time.monotonic() - start if self.comm.rank == 0 else 0.0
                total = self.ranks.total(np.array([loss, float(stop.requested), now]))
                self.timer.lap("sync_wait")
                self.timer.end(len(plan.tags), len(plan), len(plan.touched), self.flops.of(plan))
                self._own_loss += loss
                self._advance(total[0], total[2])
                stopped = total[1] > 0
                if self.state.iteration % self.config.valid_every == 0 or self.state.iteration == 1:
                    self._validate(rate)
                if self.state.elapsed_s - saved_s > 60.0 * self.config.checkpoint_minutes:
                    saved_s = self.state.elapsed_s
                    self._save()
                if self.comm.rank == 0:
                    progress.update(self.sampler.global_batch, **self._progress_fields(rate))
            if not stopped and (not self.state.history or self.state.history[-1].iteration != self.state.iteration):
                self._validate(rate)
            self._save()
        if self.comm.rank == 0:
            progress.close()
        return self._end(finished=not stopped)

    def _loader(self) -> MinibatchLoader:
        return MinibatchLoader(
            self.train_set,
            self.network.grouping,
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
        batch, plan = loader.take()
        timer.lap("read")
        unknown = -float(batch.log_prior[batch.layer < 0].sum())
        loss, rows = self._gradients(plan, batch.observation)
        dense = {
            name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in self.network.dense().items()
        }
        present = self.ranks.present(plan.touched)
        timer.lap("sync_wait")
        dense, rows = self.ranks.sum(present, dense, rows)
        timer.lap("sync_move")
        rate = self._learning_rate()
        self._update(dense, rows, rate)
        timer.lap("update")
        return loss + unknown, rate, plan

    def _gradients(self, plan: MinibatchPlan, observation: np.ndarray) -> tuple[float, dict[str, RowGradient]]:
        """Return the summed loss of this rank and the row gradients; dense gradients stay in their parameters."""
        self.network.zero_grad(set_to_none=True)
        if len(plan) == 0:
            return 0.0, {}
        leaves = self.network.leaves(plan)
        loss = -self.network.log_proposal(plan, torch.from_numpy(observation), leaves).sum()
        self.timer.lap("forward")
        (loss / self.sampler.global_batch).backward()  # type: ignore[no-untyped-call] # untyped in torch
        self.timer.lap("backward")
        gradients = {name: (leaf.rows, leaf.value.grad) for name, leaf in leaves.items()}
        rows = {name: RowGradient(r, g) for name, (r, g) in gradients.items() if g is not None}
        return float(loss.detach()), rows

    def _update(self, dense: dict[str, torch.Tensor], rows: dict[str, RowGradient], rate: float) -> None:
        """Apply the summed gradients. They are the same on all ranks, so all ranks raise if they are not finite."""
        max_norm = math.inf if self.config.gradient_clip is None else self.config.gradient_clip
        norm = clip([*dense.values(), *(row.value for row in rows.values())], max_norm)
        if not math.isfinite(norm):
            raise NetworkError(
                f"training: the gradient is not finite in iteration {self.state.iteration + 1}; lower "
                "training.learning_rate or training.gradient_clip, and check the traces with `etalumis traces verify` "
                f"(the last checkpoint is kept: {self.checkpoint_folder})"
            )
        self.optimizer.step(dense, rows, rate)

    def _noise_scale(self, traces: int) -> float:
        """Return the factor of the noise after `traces` traces.

        With a budget in minutes, it depends on the time at which the minibatch is requested.
        """
        return noise_scale(self.config, schedule_progress(self.config, traces, self.state.elapsed_s))

    def _learning_rate(self) -> float:
        share = schedule_progress(self.config, self.state.traces, self.state.elapsed_s)
        return learning_rate(self.config, self.state.iteration, share)

    def _advance(self, loss: float, elapsed_s: float) -> None:
        state = self.state
        state.iteration += 1
        state.traces += self.sampler.global_batch
        state.position = self.sampler.advance(state.position)
        state.elapsed_s = elapsed_s
        state.loss_sum += loss
        state.loss_traces += self.sampler.global_batch

    def _evaluate(self) -> Evaluation:
        return evaluate(
            self.network,
            self.valid_set,
            self.config.batch_size,
            self.valid_noise_seed,
            self.ranks,
            self.config.prefetch,
        )

    def _validate(self, rate: float) -> None:
        """Add a row to the history, on all ranks."""
        state = self.state
        evaluation = self._evaluate()
        busy_s, shares = self._interval()
        state.history.append(
            HistoryRow(
                iteration=state.iteration,
                traces=state.traces,
                epoch=state.position.epoch,
                elapsed_s=state.elapsed_s,
                train_loss=state.loss_sum / max(state.loss_traces, 1),
                valid_loss=evaluation.mean_loss,
                prior_loss=evaluation.mean_prior_loss,
                learning_rate=rate,
                traces_per_s=state.loss_traces / busy_s if busy_s else 0.0,
                **shares,
            )
        )
        state.loss_sum, state.loss_traces = 0.0, 0
        self.evaluation = evaluation
        if self.comm.rank == 0:
            write_history(self.output / "history.csv", state.history)

    def _interval(self) -> tuple[float, dict[str, float]]:
        """End an interval of the history; return its time and the share of each phase, both means over the ranks."""
        each = self.ranks.gathered(np.append(self.timer.interval[: len(PHASES)], self._own_loss))
        own_traces = self.state.loss_traces / self.comm.size
        self._largest_loss = float(each[:, -1].max()) / own_traces if own_traces else math.nan
        self.timer.start_interval()
        self._own_loss = 0.0
        seconds = dict(zip(PHASES, each[:, :-1].mean(axis=0).tolist(), strict=True))
        busy_s = sum(seconds.values())
        seconds["sync"] = seconds.pop("sync_wait") + seconds.pop("sync_move")
        return busy_s, {f"{name}_share": spent / busy_s if busy_s else 0.0 for name, spent in seconds.items()}

    def _progress_fields(self, rate: float) -> dict[str, object]:
        last = self.state.history[-1]
        share = budget_spent(self.config, self.state.traces, self.state.elapsed_s)
        left_s = self.state.elapsed_s * (1.0 - share) / share if share > 0 else math.nan
        loss = self.state.loss_sum / self.state.loss_traces if self.state.loss_traces else last.train_loss
        return {
            "iteration": self.state.iteration,
            "loss": f"{loss:.2f}",
            "largest": f"{self._largest_loss:.2f}",
            "valid": f"{last.valid_loss:.2f}",
            "prior": f"{last.prior_loss:.2f}",
            "rate": f"{rate:.1e}",
            "noise": f"{self._noise_scale(self.state.traces):.2f}",
            "data_wait": f"{100 * self.timer.interval_share('read'):.0f}%",
            "rank_wait": f"{100 * self.timer.interval_share('sync_wait'):.0f}%",
            "left": duration(left_s),
        }

    def _save(self) -> None:
        """Write the phases and then the checkpoint, on rank 0 while the other ranks wait."""
        with losing(self.checkpoint_folder, self.state.iteration, self._saved_iteration):
            self.timer.write()
            if self.comm.rank == 0:
                save_state(self.checkpoint_folder, self.network, self.optimizer, self.state, self.identity)
        self._saved_iteration = self.state.iteration
        self.comm.Barrier()

    def _end(self, finished: bool) -> Outcome:
        if finished and self.evaluation is None:  # resumed, and the budget was already spent
            self.evaluation = self._evaluate()
        if finished and self.comm.rank == 0:
            write_history(self.output / "history.csv", self.state.history)
            checkpoint.save(self.output, self.network, self._record())
            mark_finished(self.checkpoint_folder)
            self._log_unspent_budget()
            self._log_unfinished_warmup()
        self.comm.Barrier()
        return Outcome(finished, self.state, self.evaluation)

    def _log_unspent_budget(self) -> None:
        """Say so if the limit of the wall time ended the training before that of the traces."""
        limit = self.config.max_traces
        if limit is not None and self.state.traces < limit:
            logger.warning(
                "ended by training.max_minutes: %g after %s of training.max_traces: %s; "
                "set max_minutes to a larger value or to null to extend the training",
                self.config.max_minutes, f"{self.state.traces:,}", f"{limit:,}",
            )  # fmt: skip

    def _log_unfinished_warmup(self) -> None:
        """Log a warning if the training ended before the learning rate reached its full value."""
        if self.state.iteration < self.config.warmup_iterations:
            logger.warning(
                "the training ended after %s of training.warmup_iterations: %s, before the learning rate reached "
                "training.learning_rate: %g; lower warmup_iterations or raise the budget",
                f"{self.state.iteration:,}", f"{self.config.warmup_iterations:,}", self.config.learning_rate,
            )  # fmt: skip

    def _record(self) -> dict[str, object]:
        """Return the record of the training for the manifest of the finished network."""
        assert self.evaluation is not None
        state = self.state
        return {
            "identity": self.identity,
            "iterations": state.iteration,
            "traces": state.traces,
            "epochs": state.position.epoch,
            "elapsed_s": round(state.elapsed_s, 3),
            "world_size": self.comm.size,
            "arithmetic": str(self.network.dtype).removeprefix("torch."),
            "hyperparameters": self.config.model_dump(mode="json"),
            "valid_loss": self.evaluation.mean_loss,
            "prior_loss": self.evaluation.mean_prior_loss,
            "valid_by_name": self.evaluation.by_name(self.network.layers),
        }
