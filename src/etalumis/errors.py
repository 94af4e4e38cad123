# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Exceptions by cause. Each message says what is wrong, where, what was expected and found, and what to do."""


class EtalumisError(Exception):
    """Base class of the exceptions of this package; the command line shows them without a traceback."""


class ConfigError(EtalumisError):
    """A key or value of the configuration is unknown, missing or out of range."""


class ProtocolError(EtalumisError):
    """A PPX message was malformed or out of sequence."""


class RefusedError(EtalumisError):
    """A statement that this package cannot represent, or a run that the simulator refuses: again in every attempt."""


class SimulatorError(EtalumisError):
    """A simulator could not be obtained, built or started, or it died, hung or broke off."""


class DatasetError(EtalumisError):
    """A file is truncated, altered, foreign or of another format version, or files do not belong together."""


class StorageError(EtalumisError):
    """The operating system refused to open, read, write or lock a file. This says nothing about its content.

    Attributes
    ----------
    errno
        The error number of the operating system; None if it is not known.
    """

    errno: int | None = None


class NetworkError(EtalumisError):
    """A network file does not fit the layers, the observation or the program."""


class InferenceError(EtalumisError):
    """An inference engine was asked for something that the model cannot provide."""
