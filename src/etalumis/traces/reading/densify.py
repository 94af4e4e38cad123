# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Observations as dense arrays: new noise plus the expected images."""

from collections.abc import Sequence

import numpy as np

from etalumis.traces.block import Expected, Layout, ObservationColumn
from etalumis.traces.ragged import offsets
from etalumis.traces.reading.noise import fill_normals


def dense_observations(
    layouts: Sequence[Layout],
    observations: Sequence[ObservationColumn],
    seeds: np.ndarray,
    noise_seed: Sequence[int],
    noise_scale: float,
) -> np.ndarray:
    """Return float32 (trace, *shape): one draw from p(y | x) per trace. Several observations form a flat vector.

    Parameters
    ----------
    layouts, observations
        The observe statements in order, and the stored columns of each.
    seeds
        Seed of each trace (trace,); its noise is given by `noise.fill_normals` over the flat vector.
    noise_seed
        Further seeds of the noise.
    noise_scale
        Scale of the noise.

    Raises
    ------
    OutsideImage
        If an image has an element outside its shape.
    """
    widths = offsets(np.array([layout.size for layout in layouts], np.int64))
    joined = np.empty((len(seeds), int(widths[-1])), np.float32)
    scales = [
        (noise_scale * stored.stddev).astype(np.float32) if isinstance(stored, Expected) else None
        for stored in observations
    ]
    alone = scales[0] if len(scales) == 1 else None
    if any(scale is not None for scale in scales):
        fill_normals(joined, seeds, noise_seed, alone)
    for start, layout, stored, scale in zip(widths[:-1].tolist(), layouts, observations, scales, strict=True):
        part = joined[:, start : start + layout.size]
        if not isinstance(stored, Expected):
            part[...] = stored.reshape(len(seeds), layout.size)
            continue
        if scale is not None and alone is None:
            part *= scale[:, None]
        _add_image(joined, start, layout, stored)
    return joined.reshape(len(seeds), *(layouts[0].shape if len(layouts) == 1 else (joined.shape[1],)))


def _add_image(joined: np.ndarray, start: int, layout: Layout, stored: Expected) -> None:
    # indices are unique in a trace, so in-place addition with fancy indexing is correct
    first = np.arange(len(joined)) * joined.shape[1] + start
    joined.reshape(-1)[np.repeat(first, stored.image.lengths) + stored.elements(layout)] += stored.image.columns["mean"]
