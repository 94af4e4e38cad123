# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Errors by cause. Each message says what, where, expected, found and what to do."""


class EtalumisError(Exception):
    """Base of everything this package raises on purpose; the command line shows it without a traceback."""


class ConfigError(EtalumisError):
    """A key or value of the configuration is unknown, missing or out of range."""


class ProtocolError(EtalumisError):
    """A PPX message was malformed or came out of turn."""


class RefusedError(EtalumisError):
    """A statement that this package cannot represent, or a run that the simulator refuses: again in every attempt."""


class SimulatorError(EtalumisError):
    """A simulator could not be obtained, built or started, or it died, hung or broke off."""


class DatasetError(EtalumisError):
    """A trace file is truncated, altered, foreign, of another format version or does not fit its neighbours."""


class StorageError(EtalumisError):
    """The operating system refused to open, read, write or lock a file; its content is not to blame.

    Attributes
    ----------
    errno
        The error number of the operating system; None if it is not known.
    """

    errno: int | None = None


class NetworkError(EtalumisError):
    """A network file does not fit the layers, the observation or the program."""


class InferenceError(EtalumisError):
    """An inference engine was asked for something the model cannot give."""
