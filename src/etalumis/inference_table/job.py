# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the inferences of all observations have in common, and the inference of one of them."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etalumis import seeds
from etalumis.engines import Engine
from etalumis.errors import EtalumisError, StorageError
from etalumis.execution import Model
from etalumis.inference import Posterior
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.conditioning import Conditioning
from etalumis.inference_table.conditions import ProbabilityColumn
from etalumis.inference_table.record import FAILED, RELIABLE, summarise
from etalumis.inference_table.sources import ObservationSource
from etalumis.inference_table.table import InferenceTable
from etalumis.simulator.built import BuiltSimulator

logger = logging.getLogger(__name__)

_COUNTS = ("runs", "simulator_runs", "failures")
_ATTEMPT_FIELDS = ("engine", "status", "ess", "khat", "runs", "seconds", "verdict")


@dataclass(frozen=True)
class InferenceJob:
    """Engines, table and settings; see `etalumis.inference_table.run.infer_all`."""

    engines: Sequence[Engine]
    table: InferenceTable
    seed: int
    columns: Sequence[ProbabilityColumn]
    keep: Path | None
    built: BuiltSimulator | None

    def posterior_path(self, key: str) -> Path | None:
        """Return where the posterior of an observation is kept; None if it is not."""
        return None if self.keep is None else self.keep / f"{key}.h5"

    def checkpoint_path(self, key: str, engine: Engine) -> Path:
        """Return the file of the draws so far of an engine for an observation."""
        return Path(f"{self.table.path}.{key}.{engine.name}.part")

    def remove_checkpoints(self, key: str) -> None:
        """Remove the draws of an observation, once its record is in the table."""
        for engine in self.engines:
            self.checkpoint_path(key, engine).unlink(missing_ok=True)

    def record_failure(self, source: ObservationSource, error: Exception) -> str:
        """Record an observation that could not be inferred, unless an earlier call did; return the message."""
        message = str(error) if source.place in str(error) else f"{source.place}: {error}"
        logger.error("%s", message)
        if self.table.records.get(source.id, {}).get("status", FAILED) == FAILED:
            self.table.append(
                {
                    "id": source.id,
                    "status": FAILED,
                    "engine": self.engines[-1].name,
                    "source": source.place,
                    "verdict": " ".join(message.split()),
                }
            )
        return message

    def infer(self, source: ObservationSource, model: Model) -> dict[str, Any]:
        """Return the record of an observation: the first reliable result of the engines, else that of the last one.

        If an engine fails, the result of an earlier one is kept. ``attempts`` lists all engines that were used.

        Raises
        ------
        EtalumisError
            If the observation cannot be read, or every engine fails.
        """
        conditioning = source.read()
        attempts: list[dict[str, Any]] = []
        best: tuple[dict[str, Any], Posterior] | None = None
        for engine in self.engines:
            try:
                best = self._sample(engine, source.id, conditioning, model)
                attempts.append({field: best[0].get(field) for field in _ATTEMPT_FIELDS})
            except StorageError:
                raise
            except EtalumisError as error:
                self.checkpoint_path(source.id, engine).unlink(missing_ok=True)
                if best is None and engine is self.engines[-1]:
                    raise
                logger.warning("%s: engine %s failed: %s", source.place, engine.name, error)
                attempts.append({"engine": engine.name, "status": FAILED, "verdict": str(error)})
                continue
            if best[0]["status"] == RELIABLE:
                break
        assert best is not None  # the last engine has raised otherwise
        record, posterior = best
        kept = self.posterior_path(source.id)
        if kept is not None:
            posterior.save(kept)
        seconds = sum(attempt.get("seconds", 0.0) for attempt in attempts)
        return {"id": source.id, **record, "seconds": seconds, "attempts": attempts}

    def _sample(
        self, engine: Engine, key: str, conditioning: Conditioning, model: Model
    ) -> tuple[dict[str, Any], Posterior]:
        """Return the result of one engine, and the posterior with its provenance."""
        provenance: dict[str, Any] = {"observation_digest": conditioning.digest}
        if self.built is not None:
            provenance = conditioning.provenance(self.built)
        seed = seeds.derive(self.seed, f"infer/{conditioning.digest}", 0)
        settings = {"engine": engine.name, **engine.settings}
        identity = {**provenance, "seed": seed, "settings": settings}
        checkpoint = Checkpoint(self.checkpoint_path(key, engine), identity)
        began = time.monotonic()
        posterior = engine.sample(model, conditioning.values, seed=seed, checkpoint=checkpoint)
        posterior.truth = conditioning.truth
        posterior.info.update(provenance, model=model.name, observation=conditioning.source)
        if "network_digest" in settings:
            posterior.info["network_digest"] = settings["network_digest"]
        counts = {key: value for key, value in posterior.info.items() if key in _COUNTS}
        record = {
            "source": conditioning.source,
            "observation_digest": conditioning.digest,
            "engine": engine.name,
            "seed": seed,
            "seconds": posterior.info.get("wall_s", time.monotonic() - began),
            **counts,
            **summarise(posterior, self.columns),
        }
        return record, posterior
