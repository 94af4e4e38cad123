# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Messages with traces of delegated runs, written by flatc's code."""

import flatbuffers
import numpy as np

from etalumis.ppx.generated import ppx_generated as fb


def structs(builder, records, kind, size, alignment):
    builder.StartVector(size, len(records), alignment)
    for record in reversed(records):
        getattr(fb, f"Create{kind}")(builder, *record)
    return builder.EndVector()


STRUCTS = {
    "Addresses": ("AddressKey", 16, 4),
    "Priors": ("Prior", 16, 8),
    "Traces": ("TraceRecord", 64, 8),
    "Entries": ("Entry", 16, 8),
    "Details": ("Detail", 40, 8),
    "Observes": ("ObserveRecord", 32, 8),
    "Tags": ("TagRecord", 8, 4),
    "Arrays": ("Array", 32, 8),
    "Steps": ("Step", 8, 4),
}
NUMBERS = {"Parameters": np.float64, "Data": np.float64, "Index": np.uint32, "Shape": np.int32}


def run_result(builder, traces):
    """The bytes of a RunResult with the table `traces`."""
    fb.RunResultStart(builder)
    fb.RunResultAddTraces(builder, traces)
    result = fb.RunResultEnd(builder)
    fb.MessageStart(builder)
    fb.MessageAddBodyType(builder, fb.MessageBody.RunResult)
    fb.MessageAddBody(builder, result)
    builder.Finish(fb.MessageEnd(builder))
    return bytes(builder.Output())


def generated_traces(session=0, distributions=0, texts=(), **vectors):
    """A RunResult with traces, written by flatc's code; fields that are not given are omitted."""
    builder = flatbuffers.Builder(256)
    fields = {}
    if texts:
        strings = [builder.CreateString(text) for text in texts]
        builder.StartVector(4, len(strings), 4)
        for string in reversed(strings):
            builder.PrependUOffsetTRelative(string)
        fields["Texts"] = builder.EndVector()
    for name, content in vectors.items():
        if name in NUMBERS:
            fields[name] = builder.CreateNumpyVector(np.asarray(content, NUMBERS[name]))
        else:
            fields[name] = structs(builder, content, *STRUCTS[name])
    fb.TracesStart(builder)
    for name, offset in fields.items():
        getattr(fb, f"TracesAdd{name}")(builder, offset)
    fb.TracesAddSession(builder, session)
    fb.TracesAddDistributions(builder, distributions)
    return run_result(builder, fb.TracesEnd(builder))


def trace(seed=1, entries=0, observes=0, tags=0, result=-1):
    return (seed, entries, entries, observes, tags, result, 0, 0, 0.5, 0.25)


SMALL = {
    "texts": ["[f]__Normal", "mu", "[g]", "obs"],
    "distributions": 1,
    "Addresses": [(0, 1, 1, 1), (0, 2, 1, 3)],
    "Priors": [(1, 2, 0), (3, 3, 2)],
    "Parameters": [0.0, 2.0, 0.25, 0.25, 0.5],
    "Traces": [trace(5, 2, 1, 1, 3), trace(2**64 - 1)],
    "Entries": [(0.5, 1, 0), (2.0, 0, 2**31)],
    "Details": [(-1.5, 2**64 - 1, 3, 4, -1, 4), (-0.5, 7, 0, 0, 2**31 - 1, 0)],
    "Observes": [(-3.5, 3, 2, 1, 1 | 2 | 4, 0, 0)],
    "Tags": [(1, 4)],
    "Arrays": [(0, 0, 2, 0, 1, 0), (0, 0, 2, 0, 1, 0), (2, 0, 1, 0, 0, 0), (2, 0, 1, 0, 0, 0), (3, 1, 2, 1, 2, 1)],
    "Data": [1.5, 2.5, 0.75, -4.0, -5.0],
    "Index": [9, 3, 11],
    "Shape": [2, 3, 4],
}
