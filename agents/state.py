"""State as a tree: saved, loaded, stacked and compared by the same few functions, whatever it belongs to.

A tree is a leaf or a container of trees. Leaves are tensors, arrays, random generators, None, and what JSON holds:
numbers, texts and lists of them. Containers are dicts keyed by name, named tuples and dataclasses.

The fields of a dataclass are its state, all of it and nothing else. Settings, and what follows from the fields, are
plain attributes; a method ``derive``, where a class has one, recomputes the latter once the fields have been loaded.
A field is saved under its own name without a leading underscore, and None is not saved; ``Mark`` is for exceptions.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from functools import cache, partial
from operator import itemgetter
from types import NoneType
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from mtrl.agents.errors import AgentError

Saved = dict[str, Any]
"""Nested dicts of tensors and JSON values."""
Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Mark:
    """How a field is saved and loaded, given as ``Annotated[type, Mark(...)]``.

    Attributes:
        name: what it is saved under, in place of its own name.
        experience: it is collected data, which prediction does not need.
        varying: a dict whose names and shapes are not known before it is loaded.
        on_host: where it was None, its tensors stay on the CPU, whatever device the rest is on.
        filled: the field that counts how much of its second axis is filled; only that part is saved.
    """

    name: str = ""
    experience: bool = False
    varying: bool = False
    on_host: bool = False
    filled: str = ""


class _Field(NamedTuple):
    """A child of a container: its key or attribute, the name it is saved under, the type declared for it, its mark."""

    key: str
    name: str
    hint: Any = None
    mark: Mark = Mark()


def is_container(tree: Any) -> bool:
    """Whether ``tree`` is a dict, a named tuple or a dataclass, not a leaf."""
    is_tuple = isinstance(tree, tuple) and hasattr(tree, "_fields")
    return isinstance(tree, dict) or is_tuple or dataclasses.is_dataclass(tree)


def _fields(tree: Any) -> Sequence[_Field]:
    """The children of a container, in order."""
    if isinstance(tree, dict):
        return [_Field(key, key) for key in tree]
    kind: Any = type(tree)
    return _declared(kind)


@cache
def _declared(kind: Any) -> list[_Field]:
    """The fields of a named tuple or dataclass."""
    if not hasattr(kind, "_fields") and not dataclasses.is_dataclass(kind):
        raise TypeError(f"a {kind.__name__} has no declared state; make it a dataclass")
    hints = get_type_hints(kind, include_extras=True)
    is_tuple = hasattr(kind, "_fields")
    names = kind._fields if is_tuple else [field.name for field in dataclasses.fields(kind)]
    fields = []
    for key in names:
        hint, mark = hints[key], Mark()
        if get_origin(hint) is Annotated:
            hint, mark = get_args(hint)[:2]
        fields.append(_Field(key, mark.name or key.removeprefix("_"), hint, mark))
    return fields


def _child(tree: Any, key: str) -> Any:
    return tree[key] if isinstance(tree, dict) else getattr(tree, key)


def _set_fields(tree: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        object.__setattr__(tree, name, value)  # also where the dataclass is frozen
    if hasattr(tree, "derive"):
        tree.derive()


# Saving


def to_dict(tree: Any, experience: bool = True) -> Saved:
    """A container as nested dicts of tensors and JSON values.

    The tensors are those of ``tree``, not copies: what is to outlive the next step must be copied or written.

    Args:
        experience: whether to include the fields marked so.
    """
    saved: Saved = {}
    for field in _fields(tree):
        value = _child(tree, field.key)
        if value is None or (field.mark.experience and not experience):
            continue
        if field.mark.filled:
            value = value[:, : getattr(tree, field.mark.filled)]
        saved[field.name] = _to_saved(value, experience)
    return saved


def _to_saved(value: Any, experience: bool) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return to_dict(value, experience) if is_container(value) else value


def split_state(saved: Saved, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Flatten nested dicts into tensors on the CPU and JSON values, both keyed by ``outer/inner`` paths."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for key, value in saved.items():
        if isinstance(value, dict):
            inner_tensors, inner_values = split_state(value, f"{prefix}{key}/")
            tensors |= inner_tensors
            values |= inner_values
        elif isinstance(value, Tensor):
            tensors[prefix + key] = value.detach().cpu().contiguous()
        else:
            values[prefix + key] = value
    return tensors, values


def join_state(tensors: dict[str, Tensor], values: dict[str, Any]) -> Saved:
    """Inverse of ``split_state``."""
    saved: Saved = {}
    for path, value in (values | tensors).items():
        *outer, name = path.split("/")
        inner = saved
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[name] = value
    return saved


# Loading


def restore(tree: Tree, saved: Saved, device: torch.device | str = "cpu") -> Tree:
    """Load ``saved``, from ``to_dict`` of such a tree, into ``tree``; all of it or, on an error, nothing.

    Dataclasses and generators are changed in place, everything else is replaced by copies. A tensor goes where the one
    that it replaces is. Fields marked as experience stay as they are where ``saved`` has none of them.

    Args:
        device: of tensors that replace None.

    Returns:
        ``tree``, or where it is a dict or named tuple the new one.

    Raises:
        AgentError: a name is missing or unknown, or a value has another shape or type. It names the first such path.
    """
    loading = _Loading(torch.device(device))
    loaded: Tree = loading.container(tree, saved, "")
    # Nothing has been changed before all of it is known to fit.
    for commit in loading.commits:
        commit()
    return loaded


class _Loading:
    """Checks saved values against a tree and makes the new ones.

    Attributes:
        commits: the changes in place, inner ones first, to be made once all is checked.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.commits: list[Callable[[], object]] = []

    def container(self, tree: Any, saved: Any, path: str) -> Any:
        _check(
            isinstance(saved, dict), path.rstrip("/"), "one value is saved where several belong"
        )
        fields = _fields(tree)
        known = {field.name for field in fields}
        for name in saved:
            _check(name in known, path + name, "saved, but unknown here")
        has_experience = any(field.mark.experience and field.name in saved for field in fields)
        values = {}
        for field in fields:
            if has_experience or not field.mark.experience:
                own = _child(tree, field.key)
                values[field.key] = self._field(field, own, saved.get(field.name), path)
        if isinstance(tree, dict):
            return values
        if isinstance(tree, tuple):
            return type(tree)(**values)
        self.commits.append(lambda: _set_fields(tree, values))
        return tree

    def _field(self, field: _Field, own: Any, value: Any, path: str) -> Any:
        """The new value of a field; a ``value`` of None was not saved."""
        path += field.name
        if value is None:
            if NoneType in get_args(field.hint):
                return None
            # A dict without entries leaves no trace in what is saved.
            _check(isinstance(own, dict), path, "missing from the saved state")
            return {} if field.mark.varying else self.container(own, {}, f"{path}/")
        device = torch.device("cpu") if field.mark.on_host else self._device
        if field.mark.varying:
            _check(isinstance(value, dict), path, "one value is saved where several belong")
            return {name: _made(Tensor, inner, device, path) for name, inner in value.items()}
        if own is None:
            return _made(field.hint, value, device, path)
        return (
            self._fill(own, value, path) if field.mark.filled else self._value(own, value, path)
        )

    def _value(self, own: Any, value: Any, path: str) -> Any:
        """What replaces ``own``."""
        if is_container(own):
            return self.container(own, value, f"{path}/")
        if isinstance(own, torch.Generator):
            _check_tensor(own.get_state(), value, path)
            # States of generators are host tensors, whatever the generator's device.
            self.commits.append(lambda: own.set_state(value.cpu()))
            return own
        if isinstance(own, np.ndarray):
            _check_tensor(torch.from_numpy(own), value, path)
            return value.cpu().numpy().copy()
        if isinstance(own, Tensor):
            _check_tensor(own, value, path)
            return value.detach().to(own.device, copy=True)
        kinds = f"the saved {type(value).__name__} is no {type(own).__name__}"
        _check(type(value) is type(own), path, kinds)
        return copy.copy(value)

    def _fill(self, own: Tensor, value: Any, path: str) -> Tensor:
        """``own``, whose first entries along the second axis are to become those of ``value``."""
        fits = isinstance(value, Tensor) and value.dim() == own.dim()
        rows = own[:, : value.shape[1]] if fits else own
        _check_tensor(rows, value, path)
        self.commits.append(lambda: rows.copy_(value))
        return own


def _made(hint: Any, value: Any, device: torch.device, path: str) -> Any:
    """``value`` as what ``hint`` says, where nothing is there yet that says it."""
    choices = [choice for choice in get_args(hint) if choice is not NoneType]
    kind = choices[0] if NoneType in get_args(hint) else hint
    if isinstance(value, dict):
        parts = {}
        for field in _declared(kind):
            inner = f"{path}/{field.name}"
            given = field.name in value
            _check(
                given or NoneType in get_args(field.hint), inner, "missing from the saved state"
            )
            parts[field.key] = (
                _made(field.hint, value[field.name], device, inner) if given else None
            )
        return kind(**parts)
    if not isinstance(value, Tensor):
        return copy.copy(value)
    if (get_origin(kind) or kind) is np.ndarray:
        return value.cpu().numpy().copy()
    return value.detach().to(device, copy=True)


def _check(ok: bool, path: str, problem: str) -> None:
    if not ok:
        raise AgentError(f"{path}: {problem}")


def _check_tensor(own: Tensor, value: Any, path: str) -> None:
    _check(isinstance(value, Tensor), path, f"the saved {type(value).__name__} is no tensor")
    shapes = f"{tuple(value.shape)} is not {tuple(own.shape)}"
    _check(value.shape == own.shape, path, f"the saved shape {shapes}")
    _check(value.dtype == own.dtype, path, f"the saved type {value.dtype} is not {own.dtype}")


# Stacking, copying, comparing


def map_leaves(function: Callable[..., Any], tree: Tree, *others: Any) -> Tree:
    """A tree whose leaves are ``function`` of those of ``tree`` and of ``others``, which have its containers.

    Raises:
        AgentError: the trees hold different names.
    """
    if not is_container(tree):
        leaf: Tree = function(tree, *others)
        return leaf
    keys = [field.key for field in _fields(tree)]
    for other in others:
        alike = is_container(other) and [field.key for field in _fields(other)] == keys
        _check(alike, "state", "trees with different names cannot be put together")
    values = {}
    for key in keys:
        beside = [_child(other, key) for other in others]
        values[key] = map_leaves(function, _child(tree, key), *beside)
    if isinstance(tree, dict | tuple):
        made: Any = values if isinstance(tree, dict) else type(tree)(**values)
        return made
    changed = copy.copy(tree)
    _set_fields(changed, values)
    return changed


def map_tensors(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """``map_leaves`` on tensors alone; other leaves stay as they are."""
    return map_leaves(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def clone(tree: Tree) -> Tree:
    """A copy that shares no tensor, array or generator with ``tree``."""
    return map_leaves(_cloned, tree)


def _cloned(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.detach().clone()
    if isinstance(leaf, torch.Generator):
        return torch.Generator(leaf.device).set_state(leaf.get_state())
    return copy.copy(leaf)


def stack(trees: Sequence[Tree]) -> Tree:
    """Trees of several seeds as one: tensors ``[1, ...]`` become ``[S, ...]``, and scalars ``[S]``.

    Raises:
        AgentError: the trees differ in their names, or in a leaf that is no tensor.
    """
    return map_leaves(_stacked, trees[0], *trees[1:])


def _stacked(*leaves: Any) -> Any:
    first = leaves[0]
    if isinstance(first, Tensor):
        return torch.cat(leaves) if first.dim() else torch.stack(leaves)
    for leaf in leaves[1:]:
        same = leaf is first or leaf == first
        _check(same, "state", f"{first!r} and {leaf!r} cannot be stacked")
    return first


def unstack(tree: Tree, like: Sequence[Any]) -> list[Tree]:
    """Inverse of ``stack``, as views: ``tree`` cut into trees whose tensors have as many axes as those of ``like``."""
    parts = []
    for seed, before in enumerate(like):
        parts.append(map_leaves(partial(_cut, seed), tree, before))
    return parts


def per_seed(tree: Tree, seeds: int) -> list[Tree]:
    """``tree`` of tensors ``[S, ...]`` as one ``[1, ...]`` of each seed, as views."""
    return [map_tensors(itemgetter(slice(seed, seed + 1)), tree) for seed in range(seeds)]


def _cut(seed: int, leaf: Any, own: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf[seed : seed + 1] if own.dim() else leaf[seed]


def difference(one: Any, other: Any) -> str | None:
    """The first path at which two trees differ in any bit, and how; None if they are the same."""
    tensors, values = split_state(to_dict(one))
    their_tensors, their_values = split_state(to_dict(other))
    ours, theirs = tensors.keys() | values.keys(), their_tensors.keys() | their_values.keys()
    for path in sorted(ours ^ theirs):
        return f"{path}: only in {'the first' if path in ours else 'the second'}"
    for path, value in values.items():
        if value != their_values.get(path):
            return f"{path}: {value!r} is not {their_values.get(path)!r}"
    for path, tensor in tensors.items():
        how = _tensor_difference(tensor, their_tensors.get(path))
        if how is not None:
            return f"{path}: {how}"
    return None


def _tensor_difference(one: Tensor, other: Tensor | None) -> str | None:
    if other is None or (one.shape, one.dtype) != (other.shape, other.dtype):
        return "of another shape or type"
    # As bytes NaN equals itself, and 0 differs from -0.
    differ = (_bytes(one) != _bytes(other)).any(-1)
    if not differ.any():
        return None
    return f"{int(differ.sum())} of {one.numel()} numbers differ, the first at {int(differ.nonzero()[0])}"


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.flatten().unsqueeze(-1).view(torch.uint8)
