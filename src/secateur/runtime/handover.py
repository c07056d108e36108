"""What Dynamo does not hand over to a backend, and why: of that it says nothing unless asked (TORCH_LOGS)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch import nn
from torch._dynamo import external_utils
from torch._dynamo.callback import callback_handler
from torch._dynamo.exc import Unsupported
from torch._dynamo.utils import graph_break_reasons

_PASSED_OVER = (
    " It passes over every other module of torch.nn given to torch.compile too, until torch.compiler.reset()."
)


class Witness:
    """Hears of every function that Dynamo compiles for a backend, and tells what of it Python runs, and why.

    backend: the function given to torch.compile; it says by handed_over that it was called. tell: given one line for
    each function that Dynamo compiles in pieces or not at all. It hears of them from here on, torch.compiler.reset() or
    not. Having given up one module of torch.nn that was given to torch.compile as it is, Dynamo passes over all others
    without a sign, so that is told with the first.
    """

    def __init__(self, backend: Callable[..., Any], tell: Callable[[str], None]) -> None:
        self._backend, self._tell = backend, tell
        self._handed = self._breaks = 0
        callback_handler.start_callbacks = _Lasting(self._started, callback_handler.start_callbacks)
        callback_handler.end_callbacks = _Lasting(self._ended, callback_handler.end_callbacks)

    def handed_over(self) -> None:
        self._handed += 1

    def _started(self, *_: Any) -> None:
        self._handed, self._breaks = 0, len(graph_break_reasons)

    def _ended(self, *_: Any) -> None:
        compiling = _compiling()
        if compiling is None or not _is_for(compiling.f_locals.get("compiler_fn"), self._backend):
            return
        error = sys.exc_info()[1]
        reasons = [str(error)] if isinstance(error, Unsupported) else []
        if error is None:
            reasons = [each.reason for each in graph_break_reasons[self._breaks :]]
        if reasons:
            share, rest = ("some", "the rest") if self._handed else ("nothing", "it")
            what = f"Dynamo hands over {share} of {_subject(compiling)}, PyTorch runs {rest}"
            passed_over = error is not None and compiling.f_locals["code"].co_filename == external_utils.__file__
            self._tell(f"{what}: {_first_lines(reasons[0])}{_PASSED_OVER * passed_over}")


class _Lasting(list[Callable[..., None]]):
    """Callbacks, the first of which survives torch.compiler.reset()."""

    def __init__(self, first: Callable[..., None], others: list[Callable[..., None]]) -> None:
        super().__init__([first, *others])

    def clear(self) -> None:
        del self[1:]


def _compiling() -> FrameType | None:
    """Dynamo's own frame that compiles a function just now."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not {"compiler_fn", "code", "frame"} <= frame.f_locals.keys():
        frame = frame.f_back
    return frame


def _is_for(compiler: Any, backend: Callable[..., Any]) -> bool:
    """Whether a compiler is the backend, in whatever torch.compile wrapped it."""
    while compiler is not None and compiler is not backend:
        compiler = getattr(compiler, "_torchdynamo_orig_backend", None) or getattr(compiler, "compiler_fn", None)
    return compiler is backend


def _subject(compiling: FrameType) -> str:
    """The class of the module whose function is compiled, else the function."""
    code, frame = compiling.f_locals["code"], compiling.f_locals["frame"]
    held = frame.f_locals.values() if frame is not None else ()
    modules = [owner for each in held if isinstance(owner := getattr(each, "__self__", each), nn.Module)]
    return type(modules[0]).__name__ if modules else f"{code.co_name}()"


def _first_lines(text: str) -> str:
    """What happened, and the explanation, as one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    explained = [line.removeprefix("Explanation: ") for line in lines if line.startswith("Explanation: ")]
    return ": ".join([*lines[:1], *explained[:1]])
