# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which device a rank trains on."""

import torch
from mpi4py import MPI

from etalumis import processor
from etalumis.errors import NetworkError


def device_of(wanted: str, comm: MPI.Comm) -> torch.device:
    """Return the device of this rank; all ranks call it together. The ranks of a node share its GPUs evenly.

    Parameters
    ----------
    wanted
        "auto" (a GPU if there is one), "cpu" or "cuda".
    comm
        The ranks.

    Raises
    ------
    NetworkError
        If "cuda" is wanted, and PyTorch can use no GPU.
    """
    on_node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    rank = on_node.rank
    on_node.Free()
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = "was built without CUDA" if torch.version.cuda is None else f"was built for CUDA {torch.version.cuda}"
        raise NetworkError(
            f"training.device: cuda: expected a GPU that PyTorch can use, found none; PyTorch {torch.__version__} "
            f"{built}. Install a build for the GPUs of this machine, request a GPU from the batch system, or set "
            "training.device: cpu"
        )
    device = torch.device("cuda", rank % torch.cuda.device_count())
    torch.cuda.set_device(device)  # else each rank would also take memory of the first GPU
    return device


def processor_of(device: torch.device) -> str:
    """Return the model of the GPU or of the CPU that computes on a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor.model()
