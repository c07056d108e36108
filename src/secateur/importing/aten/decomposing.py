"""Operations that no conversion reads, spelled with others where PyTorch itself knows how."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import fx

from secateur.importing.aten.calls import READ_WITHOUT_CONVERSION
from secateur.importing.aten.complexes import COMPLEX
from secateur.importing.aten.conversions import CONVERSIONS
from secateur.importing.aten.nodes import operation_of
from secateur.importing.aten.quiet import quiet
from secateur.importing.aten.translation import needed

_MOST_ROUNDS = 4
"""How often what an operation was spelled with is spelled out in its turn."""
_READ = READ_WITHOUT_CONVERSION | CONVERSIONS.keys() | COMPLEX


def spelled_out(program: Any) -> Any:
    """A torch.export.ExportedProgram without operations that no conversion reads; where PyTorch cannot spell all of
    them with others, the program itself, for messages to name what its network calls."""
    made = program
    for _ in range(_MOST_ROUNDS):
        unread = set(_unread(made))
        if not unread:
            return made
        table = {op: spelling for op, spelling in _spellings() if op in unread}
        if not table:
            break
        try:
            made = _decomposed(made, table)
        except Exception:  # many kinds of PyTorch's own: then what the network calls is refused by its name
            break
    return program


def _spellings() -> Iterable[tuple[Any, Any]]:
    """Operations, and functions that do the same by others."""
    found: Iterable[tuple[Any, Any]] = torch.export.default_decompositions().items()  # type: ignore[no-untyped-call]
    return found


def _decomposed(program: Any, table: dict[Any, Any]) -> Any:
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        return program.run_decompositions(table)


def _unread(program: Any) -> Iterator[Any]:
    """What is called on something that an input has a part in, and that nobody reads."""
    given = set(program.graph_signature.user_inputs)
    depending: set[fx.Node] = set()
    for node in needed(program.graph.nodes, program.graph.find_nodes(op="output")):
        if node.name in given or not depending.isdisjoint(node.all_input_nodes):
            depending.add(node)
            if hasattr(node.target, "_schema") and operation_of(node) not in _READ:
                yield node.target
