# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A slow reader of trace files, written from docs/file-formats.md alone, and the same files in other layouts."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

LAYOUTS: dict[str, dict[str, Any]] = {
    "shuffle, gzip": {"shuffle": True, "compression": "gzip"},
    "gzip": {"compression": "gzip"},
    "shuffle": {"shuffle": True},
    "no filter": {},
    "contiguous": {"chunks": None},
    "lzf": {"compression": "lzf"},
    "fletcher32": {"fletcher32": True, "compression": "gzip", "shuffle": True},
}
"""How a dataset may be stored: all of it is plain HDF5."""


def copy_in_layout(source: Path, target: Path, rows: int, layout: dict[str, Any], userblock: int = 0) -> Path:
    """Copy a trace file through h5py, in chunks of `rows` rows with other filters; checksums stay as they are."""
    with h5py.File(source) as old, h5py.File(target, "w", userblock_size=userblock, libver=("v110", "v110")) as new:
        new.attrs.update(old.attrs)

        def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Group):
                new.create_group(name, track_order=name == "observations").attrs.update(item.attrs)
                return
            options = dict(layout)
            if "chunks" not in options:
                options |= {"chunks": (rows, *item.shape[1:]), "maxshape": (None, *item.shape[1:])}
            new.create_dataset(name, data=item[()], **options).attrs.update(item.attrs)

        old.visititems(visit)
    return target


def noise(noise_seed: tuple[int, ...], seed: int, size: int) -> np.ndarray:
    """Return the standard normals of one trace in double precision."""
    half = (size + 1) // 2
    words = np.random.SFC64((*noise_seed, seed)).random_raw(half).astype("<u8").view("<u4")
    radius = np.sqrt(-2.0 * np.log((words[:half] + 0.5) / 2.0**32))
    angle = 2.0 * np.pi * words[half:].view("<i4") / 2.0**32
    return np.concatenate([radius * np.cos(angle), (radius * np.sin(angle))[: size - half]])


def reference_trace(
    files: list[Path], number: int, noise_seed: tuple[int, ...], noise_scale: float = 1.0
) -> dict[str, Any]:
    """Return what a minibatch holds of one trace: address, prior and value of its controlled entries, observation."""
    for path in files:
        with h5py.File(path) as file:
            if number >= file.attrs["traces"]:
                number -= int(file.attrs["traces"])
                continue
            first, last = file["traces/offset"][number : number + 2]
            controlled = file["entries/flags"][first:last] & 1 != 0
            addresses = _strings(file["addresses"])
            priors = _rows(file["distributions"], "parameters")
            codes = file["distributions/code"][()]
            distribution = file["entries/distribution"][first:last][controlled]
            seed = int(file["traces/seed"][number])
            return {
                "seed": seed,
                "address": [addresses[i] for i in file["entries/address"][first:last][controlled]],
                "value": file["entries/value"][first:last][controlled],
                "prior": [(int(codes[i]), *priors[i].tolist()) for i in distribution],
                "observation": _observation(file["observations"], number, seed, noise_seed, noise_scale),
            }
    raise IndexError(number)


def _observation(
    group: h5py.Group, number: int, seed: int, noise_seed: tuple[int, ...], noise_scale: float
) -> np.ndarray:
    sizes = [int(np.prod(item.attrs["shape"])) for item in group.values()]
    drawn = noise(noise_seed, seed, sum(sizes))
    parts, start = [], 0
    for item, size in zip(group.values(), sizes, strict=True):
        if item.attrs["storage"] == "noisy":
            parts.append(item["value"][number].reshape(-1))
        else:
            first, last = item["offset"][number : number + 2]
            image = noise_scale * item["stddev"][number] * drawn[start : start + size]
            index = np.cumsum(item["step"][first:last], dtype=item["step"].dtype)
            image[index] += item["mean"][first:last]
            parts.append(image)
        start += size
    return np.concatenate(parts)


def _rows(group: h5py.Group, content: str) -> list[np.ndarray]:
    offset = group["offset"][()]
    return [group[content][a:b] for a, b in pairwise(offset.tolist())]


def _strings(group: h5py.Group) -> list[str]:
    return [row.tobytes().decode() for row in _rows(group, "content")]
