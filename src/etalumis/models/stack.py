# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Addresses of Python models: the call stack below the model, as ``[forward+2:15-23; helper+1:11-39]``."""

from itertools import islice
from types import CodeType, FrameType


class StackTable:
    """Cache of the labels of call stacks.

    A label lists the frames from the model's function to the statement, outermost first. Each frame is shown by the
    qualified name of the function and the position of the call: its line, counted from the first line of the function,
    and its columns. Functions of other modules than the model's are prefixed with the module name. Labels are equal in
    all processes that run the same source. Bytecode offsets would not work: Python compiles the condition of a while
    loop twice, for its first and its later repetitions, so that one statement would have two addresses.
    """

    def __init__(self) -> None:
        self._labels: dict[tuple[int, ...], str] = {}
        # Keys contain ids of code objects. The objects are kept alive, so that their ids are not reused.
        self._codes: dict[int, CodeType] = {}

    def address(self, innermost: FrameType, cut: CodeType) -> str:
        """Return the label of the stack from below the frame of `cut` down to `innermost`."""
        key: list[int] = []
        frame: FrameType | None = innermost
        while frame is not None and frame.f_code is not cut:
            key.append(id(frame.f_code))
            key.append(frame.f_lasti)
            frame = frame.f_back
        label = self._labels.get(tuple(key))
        if label is None:
            label = self._labels[tuple(key)] = self._describe(innermost, cut)
        return label

    def _describe(self, innermost: FrameType, cut: CodeType) -> str:
        frames: list[FrameType] = []
        frame: FrameType | None = innermost
        while frame is not None and frame.f_code is not cut:
            self._codes[id(frame.f_code)] = frame.f_code
            frames.append(frame)
            frame = frame.f_back
        home = frames[-1].f_globals.get("__name__")
        return "[" + "; ".join(_frame(frame, home) for frame in reversed(frames)) + "]"


def _frame(frame: FrameType, home: str | None) -> str:
    code = frame.f_code
    module = frame.f_globals.get("__name__")
    name = code.co_qualname if module == home else f"{module}.{code.co_qualname}"
    # all lambdas of a function have the same name
    where = f":{code.co_firstlineno}" if code.co_name.startswith("<") else ""
    return f"{name}{where}+{_position(frame)}"


def _position(frame: FrameType) -> str:
    code = frame.f_code
    positions = islice(code.co_positions(), frame.f_lasti // 2, None)  # one per code unit of two bytes
    line, end_line, column, end_column = next(positions, (None, None, None, None))
    if line is None or end_line is None or column is None or end_column is None:
        return f"0x{frame.f_lasti:x}"  # compiled without positions (-X no_debug_ranges)
    end = f"{end_column}" if end_line == line else f"{end_line - code.co_firstlineno}:{end_column}"
    return f"{line - code.co_firstlineno}:{column}-{end}"
