# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The machine on which something was measured, for captions and for table 1."""

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from etalumis import processor
from etalumis.errors import NetworkError
from etalumis.files import read_json, write_json_atomic

FILE = "machine.json"
_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512_f", "avx2")
"""Instruction sets that matter for matrix products, the fastest first, as torch names them."""


@dataclass(frozen=True)
class Machine:
    """A machine, without names of hosts or users.

    Attributes
    ----------
    cpu
        Model of the processor.
    cores, logical_cores
        Physical and logical cores.
    memory_gb
        Memory, in 10^9 bytes.
    instructions
        Fastest instruction set for matrix products that it has.
    torch
        Version of PyTorch.
    load
        Mean number of running processes in the last minute before the measurement, by others too.
    """

    cpu: str
    cores: int
    logical_cores: int
    memory_gb: float
    instructions: str
    torch: str
    load: float

    @classmethod
    def of_this(cls) -> "Machine":
        """Return the machine that runs this process."""
        features, logical = torch.cpu.get_capabilities(), processor.cores()
        return cls(
            cpu=processor.model(),
            cores=int(features.get("num_physical_cores", logical)),
            logical_cores=logical,
            memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
            instructions=next((name for name in _INSTRUCTIONS if features.get(name)), platform.machine()),
            torch=torch.__version__,
            load=round(os.getloadavg()[0], 2),
        )

    @property
    def sentence(self) -> str:
        """The machine in words."""
        return (
            f"Machine: {self.cpu}, {self.logical_cores} logical cores, {self.instructions}, "
            f"PyTorch {self.torch}; load at the start {self.load:.1f}."
        )

    def save(self, folder: Path) -> None:
        """Write it beside what was measured."""
        write_json_atomic(folder / FILE, asdict(self))

    @classmethod
    def load_from(cls, folder: Path) -> "Machine":
        """Read what `save` wrote.

        Raises
        ------
        NetworkError
            If the file is missing or has other keys.
        """
        try:
            values: dict[str, Any] = read_json(folder / FILE)
            return cls(**values)
        except (OSError, ValueError, TypeError) as error:
            raise NetworkError(
                f"{folder / FILE}: expected the machine of a training of the experiments, found {error}; train with "
                "`etalumis experiments train`"
            ) from None
