"""The tensors of a checkpoint, found under whatever names they have there → the entries of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from secateur.importing.checkpoints.derived import put_together
from secateur.importing.checkpoints.files import Contents

Shape = tuple[int | None, ...]
"""None where any length will do."""

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
"""What DataParallel, torch.compile and the like put into names, in front or within."""
_COUNTERS = {"num_batches_tracked", "n_averaged", "total_ops", "total_params"}
"""No network computes with these in evaluation mode."""
_CANDIDATES = 64
"""Prefixes that are tried, and parts of a name that may be one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a network expects under a name. tied: all names that share its memory, one of which is enough."""

    shape: Shape
    tied: frozenset[str]

    def takes(self, tensor: Tensor) -> bool:
        if tensor.is_nested or tensor.dim() != len(self.shape):
            return False
        return all(wanted in (None, found) for wanted, found in zip(self.shape, tensor.shape, strict=True))


@dataclass(frozen=True, slots=True)
class Match:
    """tensors: by the network's names. missing, unknown, misshapen: what does not fit; left_out: what lies beside.

    notes: how the names were found, in words. prefix: what all names of the file begin with.
    """

    tensors: Mapping[str, Tensor]
    prefix: str
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        return not self.missing and not self.misshapen

    @property
    def flaws(self) -> int:
        return len(self.missing) + len(self.misshapen) + len(self.unknown)


@dataclass(frozen=True, slots=True)
class Matches:
    """complete: those that give every entry; nearest: the one with the fewest differences."""

    complete: tuple[Match, ...]
    nearest: Match


def expected_of(state: Mapping[str, Tensor]) -> dict[str, Entry]:
    """What a network's state dict says that it expects; parameters without a shape yet take any."""
    by_memory: dict[tuple[int, Shape], set[str]] = {}
    places = {name: _place(name, tensor) for name, tensor in state.items()}
    for name, place in places.items():
        by_memory.setdefault(place, set()).add(name)
    return {name: Entry(tuple(state[name].shape), frozenset(by_memory[places[name]])) for name in state}


def expected_of_shapes(shapes: Mapping[str, Shape]) -> dict[str, Entry]:
    """Entries that share no memory."""
    return {name: Entry(shape, frozenset({name})) for name, shape in shapes.items()}


def _place(name: str, tensor: Tensor) -> tuple[int, Shape]:
    """Tensors without memory of their own share none."""
    alone = tensor.is_meta or tensor.numel() == 0
    return (hash(name) if alone else tensor.data_ptr()), tuple(tensor.shape)


def find_matches(expected: Mapping[str, Entry], contents: Contents) -> Matches:
    """Under the names of the file, or else without what wrappers put into them, or in front of the network's own;
    with weights as they are, or put together where they are there in parts."""
    whole, worked = put_together(contents)
    views = [(contents, ())] + ([(whole, worked)] if worked else [])
    nearest: Match | None = None
    for spelling in _SPELLINGS:
        for view, said in views:
            found = [replace(match, notes=(*match.notes, *said)) for match in _matches(expected, view, spelling)]
            if complete := tuple(match for match in found if match.is_complete):
                return Matches(complete, complete[0])
            nearest = min([*([nearest] if nearest else []), *found], key=lambda match: match.flaws)
    assert nearest is not None
    return Matches((), nearest)


@dataclass(frozen=True, slots=True)
class _Spelling:
    """How names are read: own(names of the network) and theirs(name in the file), and what that is called."""

    own: Callable[[Sequence[str]], list[str]]
    theirs: Callable[[str], str]
    note: str = ""


def _without_wrappers(name: str) -> str:
    *modules, last = name.split(".")
    return ".".join([*(part for part in modules if part not in _WRAPPERS), last])


def _without_common_prefix(names: Sequence[str]) -> list[str]:
    plain = [_without_wrappers(name) for name in names]
    parts = [name.split(".")[:-1] for name in plain]
    common = 0
    while all(len(each) > common for each in parts) and len({each[common] for each in parts}) == 1:
        common += 1
    return [".".join(name.split(".")[common:]) for name in plain]


_SPELLINGS = (
    _Spelling(list, str),
    _Spelling(lambda names: [_without_wrappers(name) for name in names], _without_wrappers, "wrappers' names left out"),
    _Spelling(_without_common_prefix, _without_wrappers, "without the prefix of the network's own names"),
)


def _matches(expected: Mapping[str, Entry], contents: Contents, spelling: _Spelling) -> Iterator[Match]:
    own = dict(zip(spelling.own(list(expected)), expected, strict=True))
    theirs = {spelling.theirs(name): name for name in contents.tensors}
    if len(own) < len(expected) or len(theirs) < len(contents.tensors):
        return
    for prefix in _prefixes(own, theirs):
        yield _match(expected, contents, own, theirs, prefix, spelling.note)


def _prefixes(own: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Whatever stands in front of one of the network's own names, the most frequent first; or nothing."""
    counts: dict[str, int] = {"": 0}
    for name in theirs:
        parts = name.split(".")
        for split in range(min(len(parts), _CANDIDATES)):
            if ".".join(parts[split:]) in own:
                prefix = "".join(f"{part}." for part in parts[:split])
                counts[prefix] = counts.get(prefix, 0) + 1
    return sorted(counts, key=lambda prefix: -counts[prefix])[:_CANDIDATES]


def _match(
    expected: Mapping[str, Entry],
    contents: Contents,
    own: Mapping[str, str],
    theirs: Mapping[str, str],
    prefix: str,
    note: str,
) -> Match:
    named = {own[name.removeprefix(prefix)]: full for name, full in theirs.items()
             if name.startswith(prefix) and name.removeprefix(prefix) in own}  # fmt: skip
    taken = set(named.values())
    homes = {contents.groups[full] for full in taken or contents.groups}
    beside = [name for name, full in theirs.items() if contents.groups[full] in homes and full not in taken]
    others = [name for name in beside if name.rsplit(".", 1)[-1] not in _COUNTERS]
    tensors = {name: contents.tensors[full] for name, full in named.items()
               if not _is_counter(name) or expected[name].takes(contents.tensors[full])}  # fmt: skip
    notes = [f"found under {prefix!r}"] if prefix else []
    return Match(
        tensors,
        prefix,
        (*notes, *([note] if note else [])),
        tuple(name for name, entry in expected.items() if not entry.tied & named.keys() and not _is_counter(name)),
        tuple(name for name in others if name.startswith(prefix)),
        tuple(name for name, tensor in tensors.items() if not expected[name].takes(tensor)),
        tuple(name for name in others if not name.startswith(prefix)),
    )


def _is_counter(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in _COUNTERS
