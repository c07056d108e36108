"""Modules and tasks that a program holds, under names by which cells, stores and caches know them.

A name ends with a digest of what the object is, so that two that differ never share a row.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from secateur.errors import UsageError
from secateur.modules.guarding import check_values
from secateur.records.recipes import Retraining
from secateur.support.fingerprints import code_digest, has_code
from secateur.support.references import MARK
from secateur.training.tasks import Task

_MODULES: dict[str, nn.Module] = {}
_TASKS: dict[str, Task] = {}
_BOOKKEEPING = frozenset(vars(nn.Module()))
"""What every module has: its mode, weights, submodules and hooks."""


def taken_as_it_is(recipe: Mapping[str, Any], weights: object) -> dict[str, Any]:
    """The changes to a recipe for a module that is handed over trained: it learns for no epochs, unless some are asked
    for, and where it learns again at gentler rates than a fresh one."""
    if weights is not None:
        return dict(recipe)
    usual = {"epochs": 0, "learning_rate": 0.01}
    return usual | {name: value for name, value in recipe.items() if value is not None}


def check_retrainings(retrainings: Sequence[Retraining | None]) -> None:
    """Raises UsageError for schedules that set a module back to weights which it no longer has."""
    for each in retrainings:
        if each is not None and each.starts_over:
            raise UsageError(
                f"retraining {each.schedule!r} sets weights back to early or fresh ones, but a module that is handed "
                "over has those of now alone: expected one-shot, iterative, gradual"
            )


@contextlib.contextmanager
def presented(model: str | nn.Module, data: str | Task, name: str | None = None) -> Iterator[tuple[str, str]]:
    """Their names, under which they are found inside the block. name: the network's, by default its class's.

    Raises UsageError as name_of does, and for a name where there is no module.
    """
    if isinstance(model, nn.Module):
        called = name_of(model, name)
        _MODULES[called] = model
    elif name is not None:
        raise UsageError(f"name {name!r} is for a module that is handed over, but the model is {model!r}: drop it")
    else:
        called = model
    told = data if isinstance(data, str) else f"{data.name}{MARK}{data.digest}"
    if isinstance(data, Task):
        _TASKS[told] = data
    try:
        yield called, told
    finally:
        _MODULES.pop(called, None)
        _TASKS.pop(told, None)


@contextlib.contextmanager
def all_presented(
    models: Sequence[str | nn.Module], data: Sequence[str | Task], name: str | None = None
) -> Iterator[tuple[list[str], list[str]]]:
    """Likewise of several. Raises UsageError for one name for several models."""
    if name is not None and len(models) > 1:
        raise UsageError(f"name {name!r} is for one module, but {len(models)} models are given: leave it out")
    with contextlib.ExitStack() as stack:
        called = [stack.enter_context(presented(model, "", name))[0] for model in models]
        told = [stack.enter_context(presented("", each))[1] for each in data]
        yield called, told


def find_module(name: str) -> nn.Module:
    """Raises UsageError where no module of this name is presented."""
    if name not in _MODULES:
        raise UsageError(
            f"model {name!r} is a module that a program held: run that program again (its kept network lies in best/, "
            "as .safetensors and .secateur)"
        )
    return _MODULES[name]


def find_task(name: str) -> Task:
    """Likewise a task."""
    if name not in _TASKS:
        raise UsageError(f"data {name!r} is a task that a program held: run that program again")
    return _TASKS[name]


def name_of(network: nn.Module, name: str | None = None) -> str:
    """A network's name, by default its class's, and sixteen hex digits of its weights, its code and its settings.

    Raises UsageError where the code of one of its modules cannot be read and no name is given.
    """
    check_values(network)
    unread = next((module for module in network.modules() if not has_code(type(module), "forward")), None)
    if unread is not None and name is None:
        raise UsageError(
            f"the code of {type(unread).__name__} cannot be read, so that two versions of it cannot be told apart: "
            "give name=…, another one when it changes"
        )
    if name is not None and (
        not isinstance(name, str) or not name or MARK in name or "/" in name or not name.isprintable()
    ):
        raise UsageError(f"name {name!r}: expected a short text without {MARK} and /")
    return f"{name or type(network).__name__}{MARK}{_digest(network)}"


def _digest(network: nn.Module) -> str:
    told = hashlib.sha256()
    for kind in dict.fromkeys(type(module) for module in network.modules()):
        told.update(f"{kind.__qualname__} {code_digest(kind)}\n".encode())
    for name, module in network.named_modules():
        told.update(f"{name} {type(module).__qualname__} {_settings(module)}\n".encode())
    held = dict(network.named_buffers(remove_duplicate=False)) | network.state_dict()
    for name, value in held.items():
        if isinstance(value, torch.Tensor):
            told.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
            flat = (value.detach().to_dense() if value.is_sparse else value.detach()).cpu().contiguous().reshape(-1)
            told.update(flat.view(torch.uint8).numpy().data)
    return told.hexdigest()[:16]


def _settings(module: nn.Module) -> str:
    """What it holds beside weights and submodules: numbers, texts, functions, configurations; its hooks; and the code
    of what was traced or scripted."""
    held = {name: value for name, value in sorted(vars(module).items()) if name not in _BOOKKEEPING}
    hooks = [list(module._forward_pre_hooks.values()), list(module._forward_hooks.values())]
    code = getattr(module, "code", "")
    return code_digest([held, hooks]) + (code if isinstance(code, str) else "")
