# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The training loop: every rank reads its minibatch, gradients are summed, every rank makes the same update.

Loss: mean over traces of -log q(x | y) in nats, x in physical units (SC'19, section 4.2: the Monte Carlo estimate of
E_p(y) KL(p(x | y) || q(x | y)) up to a constant), so it compares directly with the loss of proposing from the prior.
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
from etalumis.errors import NetworkError
from etalumis.network import checkpoint
from etalumis.network.minibatch_plan import MinibatchPlan
from etalumis.network.model import ProposalNetwork
from etalumis.progress import Progress, duration
from etalumis.seeds import derive
from etalumis.training.evaluate import Batches, Evaluation, evaluate
from etalumis.training.feed import Feed
from etalumis.training.history import HistoryRow, write_history
from etalumis.training.optimizer import Optimizer, RowGradient, clip
from etalumis.training.sampler import Sampler
from etalumis.training.schedule import learning_rate, noise_scale, scheduled_share, spent
from etalumis.training.signals import StopSignal
from etalumis.training.state import PHASES, TrainingState, load_state, mark_finished, save_state
from etalumis.training.synchronize import Synchronizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a training ended: `finished` is False where a signal stopped it (a checkpoint lets it go on)."""

    finished: bool
    state: TrainingState
    evaluation: Evaluation | None


class Trainer:
    """Trains a network in place; the same object on every rank of `comm`.

    Parameters
    ----------
    network
        Equal on every rank.
    train_set, valid_set
        Datasets that know the network's layers.
    config
        Hyperparameters and budget.
    seed
        Run seed: order of the traces and noise.
    output
        Folder: checkpoint/ from which the training resumes or is extended; manifest.json, tensors.pt, layers.json and
        history.csv at the end.
    identity
        Digest of data, architecture and hyperparameters: a checkpoint with another is not resumed.
    comm
        The ranks.
    """

    def __init__(
        self,
        network: ProposalNetwork,
        train_set: Batches,
        valid_set: Batches,
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
        self.phases = dict.fromkeys(PHASES, 0.0)
        self.evaluation: Evaluation | None = None

    @property
    def checkpoint_folder(self) -> Path:
        """Where the resumable state lives."""
        return self.output / "checkpoint"

    def run(self) -> Outcome:
        """Train until the budget is spent or a signal asks to stop.

        Raises
        ------
        NetworkError
            Where the gradient is not finite any more; the last checkpoint is kept.
        """
        saved = load_state(self.checkpoint_folder, self.network, self.optimizer, self.identity, self.config)
        self.state = saved or self.state
        self.state.position = self.sampler.fitting(self.state.position)
        if self.state.iteration and self.comm.rank == 0:
            logger.info("training goes on from iteration %d, %d traces", self.state.iteration, self.state.traces)
        earlier_s, start, saved_s = self.state.elapsed_s, time.monotonic(), self.state.elapsed_s
        progress = Progress(None, "traces", "training", done=self.state.traces)
        with StopSignal() as stop, self._feed() as feed:
            stopped, rate = False, self._rate()
            while not stopped and spent(self.config, self.state.traces, self.state.elapsed_s) < 1.0:
                loss, rate = self._step(feed)
                now = earlier_s + time.monotonic() - start if self.comm.rank == 0 else 0.0
                total = self.ranks.total(np.array([loss, float(stop.asked), now]))
                self._count(total[0], total[2])
                stopped = total[1] > 0
                if self.state.iteration % self.config.valid_every == 0 or self.state.iteration == 1:
                    self._validate(rate)
                if self.state.elapsed_s - saved_s > 60.0 * self.config.checkpoint_minutes:
                    saved_s = self.state.elapsed_s
                    self._save()
                if self.comm.rank == 0:
                    progress.update(self.sampler.global_batch, **self._shown(rate))
            if not stopped and (not self.state.history or self.state.history[-1].iteration != self.state.iteration):
                self._validate(rate)
            self._save()
        if self.comm.rank == 0:
            progress.close()
        return self._end(finished=not stopped)

    def _feed(self) -> Feed:
        return Feed(
            self.train_set,
            self.network.grouping,
            self.sampler,
            self.comm.rank,
            self.state,
            self.config,
            self.noise_seed,
            self._noise_scale,
        )

    def _step(self, feed: Feed) -> tuple[float, float]:
        """Do one iteration; return this rank's summed loss and the learning rate."""
        clock = _Clock(self.phases)
        batch, plan = feed.take()
        clock.lap("read")
        unknown = -float(batch.log_prior[batch.layer < 0].sum())
        loss, rows = self._gradients(plan, batch.observation, clock)
        dense = {
            name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in self.network.dense().items()
        }
        dense, rows = self.ranks.sum(plan.touched, dense, rows)
        clock.lap("sync")
        rate = self._rate()
        self._update(dense, rows, rate)
        clock.lap("update")
        return loss + unknown, rate

    def _gradients(
        self, plan: MinibatchPlan, observation: np.ndarray, clock: "_Clock"
    ) -> tuple[float, dict[str, RowGradient]]:
        """Return this rank's summed loss and the gradients of its rows; dense gradients stay with their parameters."""
        self.network.zero_grad(set_to_none=True)
        if len(plan) == 0:
            return 0.0, {}
        leaves = self.network.leaves(plan)
        loss = -self.network.log_proposal(plan, torch.from_numpy(observation), leaves).sum()
        clock.lap("forward")
        (loss / self.sampler.global_batch).backward()  # type: ignore[no-untyped-call] # untyped in torch
        clock.lap("backward")
        gradients = {name: (leaf.rows, leaf.value.grad) for name, leaf in leaves.items()}
        rows = {name: RowGradient(r, g) for name, (r, g) in gradients.items() if g is not None}
        return float(loss.detach()), rows

    def _update(self, dense: dict[str, torch.Tensor], rows: dict[str, RowGradient], rate: float) -> None:
        """Apply summed gradients, unless they would spoil the network; every rank holds the same and decides alike."""
        largest = self.config.gradient_clip
        norm = clip([*dense.values(), *(row.value for row in rows.values())], math.inf if largest is None else largest)
        if not math.isfinite(norm):
            raise NetworkError(
                f"training: the gradient is not finite in iteration {self.state.iteration + 1}; lower "
                "training.learning_rate or training.gradient_clip, and check the traces with `etalumis traces verify` "
                f"(the last checkpoint is kept: {self.checkpoint_folder})"
            )
        self.optimizer.step(dense, rows, rate)

    def _noise_scale(self, traces: int) -> float:
        """Return the factor of the noise once `traces` traces are done.

        Of a budget in minutes it is that of the time when the minibatch is asked for.
        """
        return noise_scale(self.config, scheduled_share(self.config, traces, self.state.elapsed_s))

    def _rate(self) -> float:
        share = scheduled_share(self.config, self.state.traces, self.state.elapsed_s)
        return learning_rate(self.config, self.state.iteration, share)

    def _count(self, loss: float, elapsed_s: float) -> None:
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
        """Add a row to the history, on every rank alike."""
        state = self.state
        evaluation = self._evaluate()
        busy = sum(self.phases.values())
        shares = {f"{name}_share": seconds / busy if busy else 0.0 for name, seconds in self.phases.items()}
        self.phases.update(dict.fromkeys(PHASES, 0.0))
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
                traces_per_s=state.loss_traces / busy if busy else 0.0,
                **shares,
            )
        )
        state.loss_sum, state.loss_traces = 0.0, 0
        self.evaluation = evaluation
        if self.comm.rank == 0:
            write_history(self.output / "history.csv", state.history)

    def _shown(self, rate: float) -> dict[str, object]:
        last, busy = self.state.history[-1], sum(self.phases.values())
        share = spent(self.config, self.state.traces, self.state.elapsed_s)
        left_s = self.state.elapsed_s * (1.0 - share) / share if share > 0 else math.nan
        loss = self.state.loss_sum / self.state.loss_traces if self.state.loss_traces else last.train_loss
        return {
            "iteration": self.state.iteration,
            "loss": f"{loss:.2f}",
            "valid": f"{last.valid_loss:.2f}",
            "prior": f"{last.prior_loss:.2f}",
            "rate": f"{rate:.1e}",
            "noise": f"{self._noise_scale(self.state.traces):.2f}",
            "data_wait": f"{100 * self.phases['read'] / busy if busy else 0:.0f}%",
            "left": duration(left_s),
        }

    def _save(self) -> None:
        """Write the checkpoint on rank 0; the others wait, so that none is a file ahead."""
        if self.comm.rank == 0:
            save_state(self.checkpoint_folder, self.network, self.optimizer, self.state, self.identity)
        self.comm.Barrier()

    def _end(self, finished: bool) -> Outcome:
        if finished and self.evaluation is None:  # resumed with its budget already spent
            self.evaluation = self._evaluate()
        if finished and self.comm.rank == 0:
            write_history(self.output / "history.csv", self.state.history)
            checkpoint.save(self.output, self.network, self._record())
            mark_finished(self.checkpoint_folder)
        self.comm.Barrier()
        return Outcome(finished, self.state, self.evaluation)

    def _record(self) -> dict[str, object]:
        """Return what the finished network's manifest says of its training."""
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


class _Clock:
    """Adds the time between laps to named phases."""

    def __init__(self, phases: dict[str, float]) -> None:
        self.phases, self.last = phases, time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.phases[phase] += now - self.last
        self.last = now
