# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Whether the trainings of a figure have learned something from the observation, as a sentence for its caption."""

from collections.abc import Sequence

from etalumis.diagnostics.history import MIN_GAIN_NATS
from etalumis.experiments.training_record import TrainingRecord


def named_gain(record: TrainingRecord) -> float | None:
    """Return by how many nats the named entries of a training together gained over their priors; None without names.

    Entries without a name are left out: the accepted draws of rejection loops differ from their prior whatever was
    observed, so a network that ignores the observation gains there too.
    """
    named = record.training["valid_by_name"]
    return sum(entry["prior_loss"] - entry["loss"] for entry in named.values()) if named else None


def has_learned(record: TrainingRecord) -> bool | None:
    """Return whether a training has learned from the observation, by the limit of figure 7; None if not known."""
    gain = named_gain(record)
    return None if gain is None else gain > MIN_GAIN_NATS


def verdict(records: Sequence[TrainingRecord]) -> str:
    """Return how many trainings have learned from the observation, and what their order says if not all have."""
    gains = [gain for record in records if (gain := named_gain(record)) is not None]
    if len(gains) < len(records):
        return "No entry has a name, so it is not known whether the trainings have learned from the observation."
    learned = sum(gain > MIN_GAIN_NATS for gain in gains)
    names = ", ".join(records[0].training["valid_by_name"])
    count = "None" if learned == 0 else "All" if learned == len(gains) else str(learned)
    counted = (
        f"{count} of the {len(gains)} trainings {'has' if learned < 2 else 'have'} learned from the observation (named "
        f"entries, {names}: together more than {MIN_GAIN_NATS:g} nats below their priors)."
    )
    if learned == len(gains):
        return counted
    largest = max(gain for gain in gains if gain <= MIN_GAIN_NATS)
    return (
        f"{counted} In {'the others' if learned else 'all of them'} the named entries gained at most {largest:.3f} "
        "nats: the loss fell only by what does not need the observation, such as the accepted draws of rejection "
        "loops. Their order says nothing of how well they would learn from the observation."
    )
