# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Going on after an interruption: the draws so far and what the engine needs to continue, in one file."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etalumis.errors import DatasetError
from etalumis.files import digest
from etalumis.inference.posterior import Posterior

logger = logging.getLogger(__name__)


class Checkpoint:
    """A posterior under way, written now and then and removed when the work is done.

    Parameters
    ----------
    path
        File of the draws so far; it is a posterior file, so it can be looked at.
    identity
        JSON-able: what the draws depend on (seed, observation, simulator, settings). A file of another identity is not
        continued but replaced.
    interval_s
        Seconds between two writings; longer where a writing takes more than a twentieth of that.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], interval_s: float = 30.0) -> None:
        self.path, self._identity, self._interval_s = Path(path), digest(dict(identity)), interval_s
        self._next = time.monotonic() + interval_s

    def load(self) -> tuple[Posterior, dict[str, Any]] | None:
        """Return the draws so far and the engine's state, or None where there is nothing to continue."""
        if not self.path.exists():
            return None
        try:
            posterior = Posterior.load(self.path)
        except DatasetError as error:
            logger.warning("starting anew: %s", error)
            return None
        if posterior.info["identity"] != self._identity:
            logger.warning("starting anew: %s was made with other settings", self.path)
            return None
        logger.info("continuing with the %d draws in %s", len(posterior), self.path)
        return posterior, posterior.info["state"]

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() >= self._next

    def save(self, posterior: Posterior, state: Mapping[str, Any]) -> None:
        """Write the draws so far and the engine's JSON-able state."""
        began = time.monotonic()
        posterior.info.update(identity=self._identity, state=dict(state))
        posterior.save(self.path)
        now = time.monotonic()
        self._next = now + max(self._interval_s, 20.0 * (now - began))

    def remove(self) -> None:
        """Remove the file: the posterior itself is written."""
        self.path.unlink(missing_ok=True)
