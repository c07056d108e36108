"""The one way to run or trace a user's network: it is handed a copy of its inputs, and afterwards is as it was.

What a forward keeps (attributes, buffers, tables built at the first call), what it writes into its own parameters, the
modes of modules, gradients, hooks and the random state all come back. Nothing runs in inference mode, whose tensors
could not be trained with, wherever a forward may have put them.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import random
import sys
import threading
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

from secateur.errors import ModelError, SecateurError
from secateur.modules.inputs import Inputs

Each = TypeVar("Each")

_WALKED = 10_000
"""A container of more things than this comes back as it was, but not what is in them."""
_CONTAINERS = (OrderedDict, dict, list, set, deque, bytearray)
_NAMESPACES = (types.SimpleNamespace, threading.local)
_DRAWING: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    torch.Generator: (torch.Generator.get_state, torch.Generator.set_state),
    random.Random: (random.Random.getstate, random.Random.setstate),
    np.random.RandomState: (np.random.RandomState.get_state, np.random.RandomState.set_state),
    np.random.BitGenerator: (lambda bits: bits.state, lambda bits, held: setattr(bits, "state", held)),
    np.random.Generator: (
        lambda source: source.bit_generator.state,
        lambda source, held: setattr(source.bit_generator, "state", held),
    ),
}
"""What draws random numbers, how its state is read, and how it is written."""
_LIBRARIES = frozenset(sys.stdlib_module_names) | {"torch", "numpy", "builtins"}


class Enough(Exception):
    """What a hook raises when it has seen what it wanted: `run` lets it through."""


def run(network: nn.Module, inputs: Inputs) -> Any:
    """What the network gives for a copy of the inputs, in its mode, with the gradients that are switched on.

    For use inside `untouched` or `watched`. Raises ModelError with the first line of what a forward raises.
    """
    try:
        return inputs.copied().call(network)
    except (SecateurError, Enough, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # a forward may want to end the process, too
        reason = first_line(error) if isinstance(error, Exception) else repr(error)
        strangers = inputs.strangers(network)
        raise ModelError(
            f"{type(network).__name__} fails on inputs of shape {inputs.describe()}: {reason}"
            f"{f'; {strangers}' if strangers else ''}"
        ) from error


def outputs(network: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Every tensor of what the network gives in evaluation mode, in order, whatever containers they come in."""
    with watched(network):
        return [each.detach().clone() for each in _pytree.tree_leaves(run(network, inputs)) if isinstance(each, Tensor)]


def copied(network: nn.Module) -> nn.Module:
    """A deep copy of a network, also of one that holds results of a forward, which copy.deepcopy refuses.

    Raises ModelError where something that it holds cannot be copied: a lock, a file, a generator.
    """
    memo: dict[int, Any] = {
        id(each): each.detach().clone() for each in _held_by(network) if isinstance(each, Tensor) and not each.is_leaf
    }
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:
        raise ModelError(
            f"{type(network).__name__} cannot be copied: {first_line(error)}; drop what it keeps beside its weights"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line that an error says, or its type where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def watched(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside the block; whatever happens there, the network is as it was after it."""
    with untouched(network), torch.inference_mode(False), torch.no_grad():
        set_evaluating(network)
        yield


@contextmanager
def shared(network: nn.Module) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """As watched, for runs in several threads, of which one goes on at a time: each enters what it is given around its
    own. What the block itself writes into weights stays there."""
    check_values(network)
    before, random_state = _Snapshot(network), _RandomState()

    @contextmanager
    def inside() -> Iterator[None]:
        with before.copying(), torch.inference_mode(False), torch.no_grad():
            yield

    try:
        set_evaluating(network)
        yield inside
    finally:
        before.restore()
        random_state.restore()


def set_evaluating(network: nn.Module) -> nn.Module:
    """The network, in evaluation mode from now on. Raises ModelError where it has none."""
    try:
        return network.eval()
    except NotImplementedError as error:  # of what torch.export.ExportedProgram.module() gives
        raise ModelError(f"{type(network).__name__} has no evaluation mode: expected it as before export") from error


@contextmanager
def untouched(network: nn.Module, *, copy_on_write: bool = True) -> Iterator[None]:
    """After the block the network, bit for bit, and the random state are as they were before it.

    That is: each module's mode, attributes (containers, arrays, plain objects and random generators in them, too),
    submodules, hooks, buffers, parameters with requires_grad, grad and hooks. Only buffers are copied beforehand; a
    parameter, or a tensor in an attribute, is copied when an operation first writes into it (not where copy_on_write is
    False, for tracers that work on stand-ins). Inside the block gradients start at None. What a forward keeps outside
    of its network, in globals say, is not seen. Raises ModelError for parameters without values.
    """
    check_values(network)
    before = _Snapshot(network)
    random_state = _RandomState()
    try:
        with before.copying() if copy_on_write else contextlib.nullcontext():
            yield
    finally:
        before.restore()
        random_state.restore()


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Whatever is drawn in the block, by Python, NumPy and PyTorch, begins at a seed; the random state comes back."""
    before = _RandomState()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        before.restore()


@contextmanager
def in_turn(*networks: nn.Module) -> Iterator[None]:
    """Threads whose blocks are about the same network go through them one after the other."""
    each_once = sorted({id(each) for each in networks})
    with _TURNS_CHANGE:
        for each in each_once:
            lock, threads = _TURNS.get(each, (threading.RLock(), 0))
            _TURNS[each] = lock, threads + 1
    try:
        with contextlib.ExitStack() as stack:
            for each in each_once:
                stack.enter_context(_TURNS[each][0])
            yield
    finally:
        with _TURNS_CHANGE:
            for each in each_once:
                lock, threads = _TURNS.pop(each)
                if threads > 1:
                    _TURNS[each] = lock, threads - 1


_TURNS: dict[int, tuple[Any, int]] = {}
"""By the id of a network: who holds it has the turn; how many want it or have it."""
_TURNS_CHANGE = threading.Lock()


def check_values(network: nn.Module) -> None:
    """Raises ModelError where a parameter has no values of its own here: a lazy one that was never run, one on the meta
    device, or one that is spread over processes."""
    for name, parameter in network.named_parameters():
        if hasattr(parameter, "full_tensor"):  # a DTensor, whose module need not be imported
            raise ModelError(
                f"parameter {name!r} is spread over processes (FSDP2, tensor parallelism): take a network that holds "
                "it whole, as by load_state_dict of a full state dict"
            )
        if isinstance(parameter, UninitializedTensorMixin):
            raise ModelError(f"parameter {name!r} is lazy and has no values yet: run the network once first")
        if parameter.is_meta:
            raise ModelError(f"parameter {name!r} is on the meta device and has no values: load the network first")


class _RandomState:
    """Of Python, NumPy and PyTorch, on every device in use."""

    def __init__(self) -> None:
        self._python, self._numpy, self._torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]

    def restore(self) -> None:
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


class _Snapshot:
    """What a network holds, such that all of it can be put back in place."""

    def __init__(self, network: nn.Module) -> None:
        self._undo: list[Callable[[], None]] = []
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._copied: dict[int, torch.UntypedStorage] = {}
        self._held = list(_held_by(network))  # kept alive, so that no id comes twice
        for each in self._held:
            self._keep(each)
        for buffer in network.buffers():
            self._keep_values(buffer)

    def copying(self) -> _CopyOnWrite:
        return _CopyOnWrite(self._storages, self._copied)

    def restore(self) -> None:
        with torch.inference_mode(False), torch.no_grad():
            for key, copied in self._copied.items():
                if self._storages[key].nbytes() != copied.nbytes():
                    self._storages[key].resize_(copied.nbytes())
                self._storages[key].copy_(copied)
            for undo in self._undo:
                undo()

    def _keep(self, each: object) -> None:
        if isinstance(each, Tensor):
            self._keep_tensor(each)
        elif isinstance(each, np.ndarray):
            self._keep_array(each)
        elif isinstance(each, tuple(_DRAWING)):
            self._keep_draws(each)
        else:
            self._keep_members(each)
            self._keep_attributes(each)
        if isinstance(each, nn.Module):  # one of TorchScript has it elsewhere
            self._keep_set(each, "training")

    def _keep_set(self, owner: Any, name: str) -> None:
        """An attribute that is set only where it changed."""
        value = getattr(owner, name)

        def undo() -> None:
            if getattr(owner, name) is not value:
                setattr(owner, name, value)

        self._undo.append(undo)

    def _keep_draws(self, source: Any) -> None:
        read, write = next(ways for kind, ways in _DRAWING.items() if isinstance(source, kind))
        with contextlib.suppress(NotImplementedError):  # of the system's own random numbers
            held = read(source)
            self._undo.append(lambda: write(source, held))

    def _keep_members(self, owner: Any) -> None:
        kind = _container(owner.__class__)
        if kind is None:
            return
        held = _listed(owner, kind)

        def undo() -> None:
            if not _same_things(_listed(owner, kind), held):
                _fill(owner, kind, held)

        self._undo.append(undo)

    def _keep_attributes(self, owner: object) -> None:
        attributes, slots = getattr(owner, "__dict__", {}), _slots(type(owner))
        if not (hasattr(owner, "__dict__") or slots):
            return
        held, held_slots = dict(attributes), _filled(owner, slots)

        def undo() -> None:
            if not _same_things(_listed(attributes, dict), _listed(held, dict)):
                _fill(attributes, dict, _listed(held, dict))
            for slot in _filled(owner, slots).keys() - held_slots.keys():
                slot.__delete__(owner)
            for slot, value in held_slots.items():
                slot.__set__(owner, value)

        self._undo.append(undo)

    def _keep_array(self, array: np.ndarray[Any, Any]) -> None:
        if array.flags.writeable and array.dtype != object:
            held = array.copy()
            self._undo.append(lambda: np.copyto(array, held))

    def _keep_tensor(self, tensor: Tensor) -> None:
        """Its memory, flags and gradient; its values are copied when something writes into them."""
        if not _has_storage(tensor):
            return
        storage = tensor.untyped_storage()
        self._storages.setdefault(storage._cdata, storage)
        alias, place, leaf = tensor.detach(), _place(tensor), tensor.is_leaf
        required, grad = tensor.requires_grad, tensor.grad if leaf else None

        def undo() -> None:
            if _place(tensor) != place:
                tensor.data = alias
            if leaf and tensor.requires_grad != required:
                tensor.requires_grad_(required)
            if leaf and tensor.grad is not grad:
                tensor.grad = grad

        if grad is not None:
            tensor.grad = None
        self._undo.append(undo)
        for name in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            self._keep_set(tensor, name)
            self._keep_members(getattr(tensor, name))

    def _keep_values(self, tensor: Tensor) -> None:
        memory = _memory(tensor)
        if memory is None:
            return
        held = memory.clone()

        def undo() -> None:
            if not torch.equal(memory, held):
                memory.copy_(held)

        self._undo.append(undo)


class _CopyOnWrite(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Copies the memory of watched tensors before the first operation that writes into it."""

    supports_higher_order_operators = True

    def __init__(self, watched: dict[int, torch.UntypedStorage], copied: dict[int, torch.UntypedStorage]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watched, self._copied = watched, copied

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        schema = getattr(function, "_schema", None)
        if schema is not None and schema.is_mutable:
            given = dict(zip((each.name for each in schema.arguments), args, strict=False)) | (kwargs or {})
            for argument in schema.arguments:
                if argument.alias_info is not None and argument.alias_info.is_write:
                    for tensor in _pytree.tree_leaves(given.get(argument.name)):
                        self._keep(tensor)
        return function(*args, **(kwargs or {}))

    def _keep(self, tensor: object) -> None:
        if isinstance(tensor, Tensor) and _has_storage(tensor):
            key = tensor.untyped_storage()._cdata
            if key in self._watched and key not in self._copied:
                self._copied[key] = self._watched[key].clone()  # type: ignore[no-untyped-call]


def _held_by(network: nn.Module) -> Iterator[object]:
    """Everything that a network refers to and that could change, each once: modules, tensors, arrays, containers and
    plain objects."""
    seen: set[int] = set()
    left: list[object] = [*network.modules(), *network.parameters(), *network.buffers()]
    while left:
        each = left.pop()
        if id(each) in seen or not _can_change(each):
            continue
        seen.add(id(each))
        yield each
        left += _members(each)


def _remembered(find: Callable[[type], Each]) -> Callable[[type], Each]:
    """What is found of a class, as long as there is that, by its place in memory, as a class need not have a hash.
    Slots, which refer to it, are found each time."""
    found: dict[int, Each] = {}
    there: dict[int, weakref.ref[type]] = {}

    def forget(place: int) -> None:
        del found[place], there[place]

    @functools.wraps(find)
    def of(kind: type) -> Each:
        place = id(kind)
        if place in found:
            return found[place]
        made = find(kind)
        if not (isinstance(made, tuple) and made):
            there[place] = weakref.ref(kind, lambda _: forget(place))
            found[place] = made
        return made

    return of


def _can_change(value: object) -> bool:
    changes = _kind_can_change(value.__class__)  # of a weak reference's proxy, that of what it stands for
    return hasattr(value, "__dict__") if changes is None else changes


@_remembered
def _kind_can_change(kind: type) -> bool | None:
    """Whether objects of a class can; None where those with attributes of their own do."""
    if issubclass(kind, (str, bytes, int, float, complex, type(None), type, types.ModuleType)):
        return False
    if issubclass(kind, (Tensor, np.ndarray, *_CONTAINERS, tuple, frozenset, *_DRAWING, nn.Module, *_NAMESPACES)):
        return True
    if kind.__module__.partition(".")[0] in _LIBRARIES:
        return False
    return True if _slots(kind) else None  # one that is neither Python's nor a tensor library's: a cache, say


def _members(value: object) -> list[object]:
    if isinstance(value, (Tensor, np.ndarray, bytearray, *_DRAWING)):
        return []
    attributes = [*getattr(value, "__dict__", {}).values(), *_filled(value, _slots(type(value))).values()]
    kind = _container(value.__class__) or next((each for each in (tuple, frozenset) if isinstance(value, each)), None)
    held = [] if kind is None else _listed(value, kind)
    return attributes + (held if len(held) <= _WALKED else [])


@_remembered
def _container(kind: type) -> type | None:
    """Which of the containers a class is."""
    return next((each for each in _CONTAINERS if issubclass(kind, each)), None)


def _listed(container: Any, kind: Any) -> list[Any]:
    """What is in a container, keys of a mapping too, by the kind's own way: a subclass may have changed it."""
    return list(itertools.chain(*kind.items(container)) if issubclass(kind, dict) else kind.__iter__(container))


def _fill(container: Any, kind: Any, held: list[Any]) -> None:
    """Nothing but this in it, as `_listed` gave it."""
    kind.clear(container)
    if issubclass(kind, dict):
        for key, value in zip(held[::2], held[1::2], strict=True):
            kind.__setitem__(container, key, value)
    else:
        (kind.update if kind is set else kind.extend)(container, held)


@_remembered
def _slots(kind: type) -> tuple[types.MemberDescriptorType, ...]:
    """The attributes that objects of a class have without a dictionary."""
    named = [vars(each) for each in kind.__mro__ if "__slots__" in vars(each)]
    return tuple(each for held in named for each in held.values() if isinstance(each, types.MemberDescriptorType))


def _filled(owner: object, slots: tuple[types.MemberDescriptorType, ...]) -> dict[types.MemberDescriptorType, object]:
    """The slots that have a value, and it."""
    found = {}
    for slot in slots:
        with contextlib.suppress(AttributeError):
            found[slot] = slot.__get__(owner)
    return found


def _same_things(one: list[object], other: list[object]) -> bool:
    return len(one) == len(other) and all(mine is theirs for mine, theirs in zip(one, other, strict=True))


def _has_storage(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested and torch._C._has_storage(tensor)


def _memory(tensor: Tensor) -> Tensor | None:
    """The bytes (n,) from its first number to its last, whatever they mean; None where there are none."""
    if tensor.is_meta or tensor.numel() == 0 or not _has_storage(tensor) or is_traceable_wrapper_subclass(tensor):
        return None
    reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.storage_offset() * tensor.itemsize
    empty = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return empty.set_(tensor.untyped_storage(), start, (reach * tensor.itemsize,), (1,))


def _place(tensor: Tensor) -> tuple[object, ...]:
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride())
