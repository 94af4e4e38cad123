# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The messages of PPX as Python values (SC'19, Section 4.1)."""

from typing import Any, NamedTuple

import numpy as np

from etalumis.distributions import ArrayDistribution, Distribution
from etalumis.rows import DETAIL, ENTRY
from etalumis.typing import FloatArray

Columns = np.ndarray[Any, Any]
_F8 = np.dtype("<f8")
TRACE = np.dtype(
    [
        ("seed", "<u8"), ("draws", "<u8"), ("entries", "<u4"), ("observes", "<u4"), ("tags", "<u4"), ("result", "<i4"),
        ("flags", "<u4"), ("padding", "<u4"), ("log_prior", "<f8"), ("log_ratio", "<f8"),
    ]
)  # fmt: skip
"""Records of the vector `traces`."""

PARAMETERS = {1: 2, 2: 2, 3: 1, 4: 1, 5: 1, 6: 2, 7: 1, 8: 2, 9: 2, 10: 2, 11: 2, 12: 2, 13: 3}
"""Number of parameters of each member of the union `Distribution`, by its number."""


class TraceRecord(NamedTuple):
    """One run: its seed, and how many of the entries, observe records and tags in the message belong to it."""

    seed: int
    draws: int
    entries: int
    observes: int
    tags: int
    result: int
    flags: int
    padding: int
    log_prior: float
    log_ratio: float


class ObserveRecord(NamedTuple):
    """One execution of an observe statement."""

    log_prob: float
    name: int
    address: int
    kind: int
    flags: int
    arrays: int
    padding: int


class ArrayRecord(NamedTuple):
    """Location of an array: `size` numbers from offset `start`, in the shape `shape`.

    If the array is sparse, `positions` is the offset of the positions of these numbers in it; otherwise -1.
    """

    start: int
    size: int
    shape: tuple[int, ...]
    positions: int


class VectorOffsets(NamedTuple):
    """Offset and number of elements of the vectors that differ from answer to answer."""

    traces: int
    entries: int
    entry_count: int
    details: int
    detail_count: int
    observes: int
    data: int
    data_count: int

    @property
    def entry_bytes(self) -> slice:
        """Bytes of the entries."""
        return slice(self.entries, self.entries + self.entry_count * ENTRY.itemsize)

    @property
    def detail_bytes(self) -> slice:
        """Bytes of their details."""
        return slice(self.details, self.details + self.detail_count * DETAIL.itemsize)


class Frame(NamedTuple):
    """The part that is equal for all answers of one layout.

    `text_bound` is greater than the number of every text that tags and observe records refer to. The log densities in
    `observes` are those of the first such answer. Tags and arrays are stored twice: as tuples, and as the records of
    the message (`tag_records`, `array_records` and the `extents` of their shapes), for code that reads many at a time.
    """

    session: int
    text_bound: int
    texts: list[str]
    addresses: Columns
    kept_priors: int
    priors: Columns
    parameters: Columns
    tags: list[tuple[int, int]]
    arrays: list[ArrayRecord]
    tag_records: Columns
    array_records: Columns
    extents: Columns
    positions: Columns
    observes: Columns
    steps: list[tuple[int, int]]
    starts: VectorOffsets


class TraceColumns:
    """The traces of delegated runs in a message.

    Addresses, priors, entries, details and numbers are arrays with the layouts of the schema's structs; they are views
    of the message. All references are within bounds: other messages are refused.
    """

    __slots__ = ("_entries", "_observes", "address_bytes", "frame", "message", "scores", "traces")

    def __init__(self, message: bytes, frame: Frame, traces: list[TraceRecord], scores: list[float]) -> None:
        self.message, self.frame, self.traces, self.scores = message, frame, traces, scores
        self.address_bytes: bytes | None = None  # of a single trace; set by `Vocabulary`
        self._entries: Columns | None = None
        self._observes: list[ObserveRecord] | None = None

    @property
    def observes(self) -> list[ObserveRecord]:
        """The observe records of all traces; `scores` has their log densities only."""
        if self._observes is None:
            pairs = zip(self.frame.observes.tolist(), self.scores, strict=True)
            self._observes = [ObserveRecord(score, *record[1:]) for record, score in pairs]
        return self._observes

    @property
    def records(self) -> Columns:
        """The records of the traces, of dtype `TRACE`; `traces` has the same as tuples."""
        return np.frombuffer(self.message, TRACE, len(self.traces), self.frame.starts.traces)

    @property
    def entries(self) -> Columns:
        """The entries of all traces, of dtype `delegation.ENTRY`."""
        if self._entries is None:
            starts = self.frame.starts
            self._entries = np.frombuffer(self.message, ENTRY, starts.entry_count, starts.entries)
        return self._entries

    @property
    def details(self) -> Columns:
        """One record per entry, of dtype `delegation.DETAIL`, or no records."""
        starts = self.frame.starts
        return np.frombuffer(self.message, DETAIL, starts.detail_count, starts.details)

    @property
    def data(self) -> Columns:
        """The numbers of the arrays."""
        starts = self.frame.starts
        return np.frombuffer(self.message, _F8, starts.data_count, starts.data)


class Handshake(NamedTuple):
    """Inference side to simulator: name of the inference side.

    `delegation` is the highest version of delegated runs that it supports, and `distributions` the highest number of a
    distribution that it knows; 0 is PPX 1.0.
    """

    system_name: str
    delegation: int = 0
    distributions: int = 0


class HandshakeResult(NamedTuple):
    """Simulator to inference side: name of the simulator and of its model.

    A simulator that offers delegated runs adds their version, and the number of the session that this handshake began.
    `chains` is the version of the chains that it can run by itself, `proposals` that of proposed rows.
    """

    system_name: str
    model_name: str
    delegation: int = 0
    session: int = 0
    chains: int = 0
    proposals: int = 0


class Run(NamedTuple):
    """Inference side to simulator: run once, with a message for every statement. See `ppx.requests` for other runs."""


class RunResult(NamedTuple):
    """Simulator to inference side: the run has ended.

    `result` is None if the model returned nothing. `traces` are those of delegated runs, read by `ppx.columns`.
    """

    result: FloatArray | None
    traces: "TraceColumns | None" = None


class Sample(NamedTuple):
    """Simulator to inference side: request for a draw.

    `shape` is the shape that the value must have: PPX 1.0 peers expect the shape of the parameters. A draw of one
    element has a scalar distribution, also if its shape is (1,).
    `scope` and `repetition` are 0 for peers that do not know them; `instance` is 0 outside assisted runs.
    """

    address: str
    distribution: Distribution | ArrayDistribution
    name: str = ""
    control: bool = True
    replace: bool = False
    scope: int = 0
    repetition: int = 0
    shape: tuple[int, ...] = ()
    instance: int = 0


class SampleResult(NamedTuple):
    """Inference side to simulator: the drawn value.

    In an assisted run `hand_over` is what the front end draws by itself from here on: 0 nothing, 1 the rest of the
    rejection scope, 2 the rest of the run.
    """

    result: FloatArray | None
    hand_over: int = 0


class Observe(NamedTuple):
    """Simulator to inference side: condition on `value` or, if it is None, on the user's observation."""

    address: str
    distribution: ArrayDistribution
    name: str = ""
    value: FloatArray | None = None


class ObserveResult(NamedTuple):
    """Inference side to simulator: continue."""


class Tag(NamedTuple):
    """Simulator to inference side: store `value` under `name`."""

    address: str
    name: str
    value: FloatArray


class TagResult(NamedTuple):
    """Inference side to simulator: continue."""


class Reset(NamedTuple):
    """Either side: the current run is abandoned; also the answer to an unexpected message.

    `reason` says why the front end of the simulator refused a Run, or which error ended it.
    """

    reason: str = ""


Message = (
    Handshake
    | HandshakeResult
    | Run
    | RunResult
    | Sample
    | SampleResult
    | Observe
    | ObserveResult
    | Tag
    | TagResult
    | Reset
)

BODIES: tuple[type[Any], ...] = (
    Handshake,
    HandshakeResult,
    Run,
    RunResult,
    Sample,
    SampleResult,
    Observe,
    ObserveResult,
    Tag,
    TagResult,
    Reset,
)
"""The bodies in the order of the union `MessageBody`: the first has number 1."""
