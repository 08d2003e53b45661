"""How settings are declared and checked: number types with ranges, frozen dataclasses, and choices by name.

Nothing here imports torch, so that a command can list, explain and check settings before it loads anything.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import re
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    Self,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import annotated_types
import pydantic.dataclasses
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from mtrl.agents.errors import AgentError, unknown
from mtrl.envs.errors import choices

T = TypeVar("T")
Heads = Literal["multi-head", "one-hot", "separate"]


def _no_bool(value: Any) -> Any:
    """Refuses True and False, which Python counts as whole numbers."""
    if isinstance(value, bool):
        raise ValueError("a truth value is not a number")
    return value


Whole = Annotated[int, BeforeValidator(_no_bool)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=1)]
Natural = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Positive = Annotated[float, BeforeValidator(_no_bool), Field(gt=0)]
NonNegative = Annotated[float, BeforeValidator(_no_bool), Field(ge=0)]
Share = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Only:
    """Marks the type of a setting that does nothing elsewhere.

    Attributes:
        where: where the setting has an effect, in words.
    """

    where: str


CONTINUOUS = Only("continuous actions")

_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, pydantic.Field))
def settings(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen dataclass that checks its fields; a wrong value raises AgentError with one sentence."""
    # pydantic reports in its own words and its own exception; agents promise AgentError.
    made: Any = pydantic.dataclasses.dataclass(frozen=True, config=_CONFIG)(cls)
    checked = made.__init__

    @functools.wraps(checked)
    def __init__(self: Any, *args: Any, **values: Any) -> None:
        try:
            checked(self, *args, **values)
        except ValidationError as error:
            raise AgentError(_sentence(error, made)) from None

    made.__init__ = __init__
    checked_made: type[T] = made
    return checked_made


def _sentence(error: ValidationError, cls: type) -> str:
    """The first complaint of pydantic's about an instance of ``cls``."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, AgentError) and not first["loc"]:
        return str(cause)
    name = str(first["loc"][0]) if first["loc"] else "settings"
    hints = hints_of(cls)
    if isinstance(cause, AgentError):
        return at(name, cause, hints[name])
    if name not in hints:
        return f"{name}: unknown setting; {choices(name, hints)}"
    if first["type"] == "missing":
        return f"{name}: no value given, and there is no default"
    return f"{name}: {complaint(first['input'], hints[name], first['type'])}"


def at(key: str, error: AgentError, hint: Any) -> str:
    """What ``error`` says of a value of type ``hint``, as a sentence about the setting ``key`` that holds it."""
    registry = registry_of(hint)
    text = str(error)
    return f"{key}: {text.removeprefix(f'{registry.what}: ') if registry else text}"


def complaint(value: Any, hint: Any, kind: str = "") -> str:
    """What is wrong with ``value`` where ``hint`` is allowed, in words.

    Args:
        kind: pydantic's name of the error; out of range and not finite are told apart by it.
    """
    shown = repr(value) if isinstance(value, str) else value
    if kind == "finite_number":
        return f"{shown} is not a finite number"
    if kind.startswith(("greater_than", "less_than")):
        return f"{value} is out of range; it must {range_of(hint)}"
    if get_origin(bare(hint)) is Literal:
        return f"{shown} is unknown; {choices(str(value), map(str, get_args(bare(hint))))}"
    return f"{shown} is not {describe(hint)}"


def bare(hint: Any) -> Any:
    """``hint`` without annotations and without the None of an optional setting."""
    if get_origin(hint) is Annotated:
        return bare(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        if len(members) == 1:
            return bare(members[0])
    return hint


def _notes(hint: Any) -> Iterator[Any]:
    """The annotations of ``hint`` and of its members."""
    if get_origin(hint) is Annotated:
        yield from hint.__metadata__
        yield from _notes(get_args(hint)[0])
    elif get_origin(hint) is not Literal:
        for member in get_args(hint):
            yield from _notes(member)


def range_of(hint: Any) -> str:
    """The range that ``hint`` allows, in words that follow "must"; empty if it has none."""
    bounds: dict[str, Any] = {}
    for note in _notes(hint):
        parts = note.metadata if isinstance(note, pydantic.fields.FieldInfo) else [note]
        for part in parts:
            name = _BOUNDS.get(type(part))
            if name is not None:
                bounds[name] = getattr(part, name)
    low = bounds.get("ge", bounds.get("gt"))
    high = bounds.get("le", bounds.get("lt"))
    if low is not None and high is not None:
        opening = "[" if "ge" in bounds else "("
        closing = "]" if "le" in bounds else ")"
        return f"lie in {opening}{low}, {high}{closing}"
    if low is not None:
        return f"be at least {low}" if "ge" in bounds else f"be greater than {low}"
    if high is not None:
        return f"be at most {high}" if "le" in bounds else f"be less than {high}"
    return ""


_BOUNDS = {
    annotated_types.Ge: "ge",
    annotated_types.Gt: "gt",
    annotated_types.Le: "le",
    annotated_types.Lt: "lt",
}
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
}


def describe(hint: Any) -> str:
    """A type in words, for messages and for the help text."""
    registry = registry_of(hint)
    optional = type(None) in get_args(hint)
    if registry is not None:
        return registry.described + (" or none" if optional else "")
    if get_origin(hint) is Annotated:
        return describe(get_args(hint)[0])
    origin, members = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(
            "none" if member is type(None) else describe(member) for member in members
        )
    if origin is Literal:
        return "one of " + ", ".join(map(str, members)) if len(members) > 1 else str(members[0])
    if origin is tuple:
        return f"a comma-separated list, each {describe(members[0])}"
    return _WORDS.get(hint, str(hint))


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))


def read_value(key: str, value: Any, hint: Any) -> Any:
    """``value``, from YAML or as text from a command line, as ``hint``.

    Raises:
        AgentError: naming the key, the value and what is allowed.
    """
    try:
        return _adapter(hint).validate_python(_plain(value, hint))
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, AgentError):
            raise AgentError(at(key, cause, hint)) from None
        raise AgentError(f"{key}: {complaint(value, hint, first['type'])}") from None
    except ValueError:
        raise AgentError(f"{key}: {complaint(value, hint)}") from None


def _plain(value: Any, hint: Any) -> Any:
    """What text and YAML write differently from Python: none, lists, 2e6 as a whole number, a choice of numbers."""
    if registry_of(hint) is None and isinstance(value, bool) and bare(hint) is not bool:
        raise ValueError("a truth value stands for nothing else")
    if not isinstance(value, str):
        return value
    if is_none(value, hint):
        return None
    inner = bare(hint)
    # YAML reads 2e6 as text, and the command line everything.
    if get_origin(inner) is tuple:
        return [item for item in re.split(r"[\s,]+", value.strip(" []()")) if item]
    if get_origin(inner) is Literal:
        return next((choice for choice in get_args(inner) if str(choice) == value), value)
    if inner is int and re.fullmatch(r"[+-]?[\d_]+(\.\d*)?[eE][+-]?\d+", value):
        number = float(value)
        return int(number) if number.is_integer() else value
    return value


def is_none(value: Any, hint: Any) -> bool:
    """Whether ``value`` leaves out a setting that may be left out."""
    written = isinstance(value, str) and value.lower() in ("none", "null")
    return type(None) in get_args(hint) and (value is None or written)


@dataclass(frozen=True)
class Setting:
    """One leaf of a configuration: its dotted key, type, default and one-line explanation."""

    key: str
    hint: Any
    default: Any
    doc: str


def leaves(cls: type) -> list[Setting]:
    """The fields of a dataclass, in order; ``default`` is ``dataclasses.MISSING`` where there is none."""
    hints, docs = hints_of(cls), field_docs(cls)
    found = []
    for field in dataclasses.fields(cls):
        default: Any = field.default
        if isinstance(default, pydantic.fields.FieldInfo):
            default = default.get_default(call_default_factory=True)
        elif callable(field.default_factory):
            default = field.default_factory()
        found.append(Setting(field.name, hints[field.name], default, docs.get(field.name, "")))
    return found


@functools.cache
def hints_of(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields, annotations included."""
    return get_type_hints(cls, include_extras=True)


@functools.cache
def field_docs(cls: type) -> dict[str, str]:
    """The string that follows each field in the source, inherited fields included."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in itertools.pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                value = text.value if isinstance(text, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    docs[field.target.id] = " ".join(value.value.split())
    return docs


@dataclass(frozen=True)
class Choice:
    """A name in a registry, with every setting that it brings.

    Attributes:
        kind: the name.
        settings: name and value of each setting, in the order of the class's fields.
    """

    kind: str
    settings: tuple[tuple[str, Any], ...] = ()

    def flat(self) -> dict[str, Any]:
        """``kind``, then the settings, by name."""
        return {"kind": self.kind, **dict(self.settings)}


@dataclass(frozen=True)
class Entry:
    """A class that a name stands for.

    Attributes:
        path: ``module:Class``; imported when its fields are needed.
        summary: one line for the help text.
    """

    path: str
    summary: str

    def load(self) -> Any:
        """The class."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)


class Registry(Generic[T]):
    """Classes by name, each a dataclass whose fields are its settings.

    Args:
        what: what the names are names of, for messages.
        entries: by name.
        outer: ``module:Class`` of settings that go with every name, and ``module:function`` that applies them to an
            instance; none if there are none.
    """

    def __init__(
        self, what: str, entries: Mapping[str, Entry], outer: tuple[str, str] | None = None
    ) -> None:
        self.what, self.entries = what, dict(entries)
        self._outer = outer

    @property
    def described(self) -> str:
        """What a value is, in words."""
        article = "an" if self.what[0] in "aeiou" else "a"
        return f"{article} {self.what} as NAME or NAME:KEY=VALUE,..."

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> type[T]:
        """The class of a name. Raises KeyError."""
        loaded: type[T] = self.entries[name].load()
        return loaded

    def items(self) -> Iterator[tuple[str, type[T]]]:
        """Names and classes."""
        return ((name, self[name]) for name in self.entries)

    def load(self, name: str) -> type[T]:
        """The class of a name. Raises AgentError for an unknown one, with the nearest right one."""
        if name not in self.entries:
            raise unknown(self.what, name, self.entries)
        return self[name]

    def settings(self, name: str) -> list[Setting]:
        """The settings of a name: its own, then those that go with every name."""
        outer = self.outer_settings()
        names = {setting.key for setting in outer}
        return [setting for setting in leaves(self.load(name)) if setting.key not in names] + outer

    def outer_settings(self) -> list[Setting]:
        """The settings that go with every name."""
        return leaves(Entry(self._outer[0], "").load()) if self._outer else []

    def choice(self, value: Any) -> Choice:
        """A complete choice from ``name``, ``name:key=value,...``, a mapping with ``kind``, or a choice.

        Raises:
            AgentError: an unknown name or setting, with the nearest right one, or a value that is not allowed.
        """
        given = self.given(value)
        kind = str(given.pop("kind"))
        known = {setting.key: setting for setting in self.settings(kind)}
        for key in given:
            if key not in known:
                raise unknown(f"{self.what}: parameter of {kind!r}", key, known)
        complete = []
        for key, setting in known.items():
            value = setting.default
            if key in given:
                value = read_value(f"{self.what}: {key}", given[key], setting.hint)
            complete.append((key, value))
        # Made once here, since the class checks what one setting says of another.
        made = Choice(kind, tuple(complete))
        self.make(made)
        return made

    def given(self, value: Any) -> dict[str, Any]:
        """``kind`` and what is given with it, not yet checked."""
        if isinstance(value, Choice):
            return value.flat()
        if isinstance(value, Mapping):
            if "kind" not in value:
                raise AgentError(f"{self.what}: {dict(value)!r} has no kind")
            return dict(value)
        if not isinstance(value, str):
            raise AgentError(f"{self.what}: {value!r} is not {self.described}")
        kind, _, rest = value.partition(":")
        found: dict[str, Any] = {"kind": kind}
        if kind not in self.entries:
            raise unknown(self.what, kind, self.entries)
        for item in filter(None, rest.split(",")):
            key, separator, text = item.partition("=")
            if not separator:
                raise AgentError(f"{self.what}: {item!r} in {value!r} is not of the form key=value")
            found[key.replace("-", "_")] = text
        return found

    def build(self, name: str, params: Mapping[str, Any]) -> T:
        """The class of a name with its defaults, except for ``params``; nothing around it.

        Raises:
            AgentError: no such name or parameter (the nearest one is named), or a value that is not allowed.
        """
        cls = self.load(name)
        fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for key in params:
            if key not in fields:
                raise unknown(f"{self.what}: parameter of {name!r}", key, fields)
        return cls(**params)

    def make(self, value: Any) -> T:
        """The instance that a choice, or anything ``choice`` reads, describes."""
        # A choice without settings is one that its user has not completed, unless the class has none.
        complete = isinstance(value, Choice) and (value.settings or not self.settings(value.kind))
        choice: Choice = value if complete else self.choice(value)
        values = dict(choice.settings)
        outer = {setting.key: values.pop(setting.key) for setting in self.outer_settings()}
        made: Any = self.load(choice.kind)
        instance: T = made(**values)
        if self._outer:
            wrapped: T = Entry(self._outer[1], "").load()(instance, **outer)
            return wrapped
        return instance

    def short(self, choice: Choice) -> str:
        """The choice as ``name:key=value,...``, settings that have their default left out."""
        defaults = {setting.key: setting.default for setting in self.settings(choice.kind)}
        changed = [
            f"{key}={_text(value)}" for key, value in choice.settings if value != defaults.get(key)
        ]
        return choice.kind + (":" + ",".join(changed) if changed else "")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def registry_of(hint: Any) -> Registry[Any] | None:
    """The registry whose names a setting takes; None for other settings."""
    return next((note for note in _notes(hint) if isinstance(note, Registry)), None)


def only_of(hint: Any) -> Only | None:
    """Where a setting has an effect; None if it has one everywhere."""
    return next((note for note in _notes(hint) if isinstance(note, Only)), None)


def values_of(config: Any) -> dict[str, Any]:
    """The settings of a dataclass by name, as JSON can hold them; a choice as a mapping with ``kind``."""
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        values[field.name] = value.flat() if isinstance(value, Choice) else value
    return values


@settings
class AgentConfig:
    """Base of all agent settings. Frozen: a run never changes its own settings."""

    def brief(self, envs_per_task: int) -> Self:
        """Settings whose pieces of training are short, at the same cost of an env step; for estimates of speed."""
        return self
