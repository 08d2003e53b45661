"""How settings are declared, checked and described: number types, frozen dataclasses, and choices by name.

pydantic reads and checks values; ``explain`` makes one sentence of what it refuses. Nothing here imports torch, so that
a command can list, explain and check settings before it loads anything.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import pydantic.dataclasses
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    with_config,
)

from mtrl.agents.errors import AgentError, unknown
from mtrl.envs.errors import UserError, choices

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Heads = Literal["multi-head", "one-hot", "separate"]


def _number(value: Any) -> Any:
    """Refuses True and False, which Python counts as numbers, and reads 2e6, which YAML takes for a text."""
    if isinstance(value, bool):
        raise ValueError("a truth value is not a number")
    if isinstance(value, str) and "e" in value.lower() and float(value).is_integer():
        return int(float(value))
    return value


_NUMBER = BeforeValidator(_number)
Whole = Annotated[int, _NUMBER]
Count = Annotated[int, Field(ge=1), _NUMBER]
Natural = Annotated[int, Field(ge=0), _NUMBER]
Number = Annotated[float, _NUMBER]
Positive = Annotated[float, Field(gt=0), _NUMBER]
NonNegative = Annotated[float, Field(ge=0), _NUMBER]
Share = Annotated[float, Field(ge=0, le=1), _NUMBER]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), _NUMBER]
CONTINUOUS = object()
"""Marks a setting that does nothing where actions are discrete."""
_RULES = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, pydantic.Field))
def settings(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen dataclass that checks its fields; a wrong value raises AgentError with one sentence."""
    made: Any = pydantic.dataclasses.dataclass(frozen=True, config=_RULES)(cls)
    checked = made.__init__

    @functools.wraps(checked)
    def __init__(self: Any, *args: Any, **values: Any) -> None:
        try:
            checked(self, *args, **values)
        except ValidationError as error:
            raise AgentError(explain(error, settings_of(made))) from None

    made.__init__ = __init__
    checked_made: type[T] = made
    return checked_made


def _cached(function: F) -> F:
    """``functools.cache`` for functions of classes, which mypy takes for unhashable."""
    return cast(F, functools.cache(function))


@_cached
def _adapter(cls: Any) -> TypeAdapter[Any]:
    """Checks and writes a dataclass under our rules, plain ones too."""
    return TypeAdapter(cls if hasattr(cls, "__pydantic_config__") else with_config(_RULES)(cls))


def values_of(config: Any) -> dict[str, Any]:
    """The settings of a dataclass by name, as JSON can hold them; a choice as a mapping with ``kind``."""
    values: dict[str, Any] = _adapter(type(config)).dump_python(config, mode="json")
    return values


class Setting(NamedTuple):
    """A field of settings: its type, its default (``dataclasses.MISSING`` if it has none), and what it does."""

    hint: Any
    default: Any
    about: str

    @property
    def notes(self) -> list[Any]:
        """What ``Annotated`` says of the type and of its alternatives."""
        parts = [self.hint, *get_args(self.hint)]
        return [note for part in parts for note in getattr(part, "__metadata__", ())]

    @property
    def registry(self) -> Registry[Any] | None:
        """What a choice chooses from; None for other settings."""
        return next((note for note in self.notes if isinstance(note, Registry)), None)

    @property
    def optional(self) -> bool:
        """Whether the setting may be none."""
        return type(None) in get_args(self.hint)

    def read(self, value: Any) -> Any:
        """``value`` with what pydantic does not read from text: none, and lists."""
        if not isinstance(value, str):
            return value
        if self.optional and value.lower() in ("none", "null"):
            return None
        is_list = any(get_origin(part) is tuple for part in (self.hint, *get_args(self.hint)))
        return re.findall(r"[^\s,\[\]()]+", value) if is_list else value


@_cached
def settings_of(cls: Any) -> dict[str, Setting]:
    """Every setting of a dataclass by dotted name, in order; a choice is one setting."""
    hints, docs = get_type_hints(cls, include_extras=True), _docstrings(cls)
    found: dict[str, Setting] = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        kind = _bare(hint)
        if hasattr(kind, "__pydantic_fields__"):
            found |= {f"{field.name}.{key}": part for key, part in settings_of(kind).items()}
        else:
            found[field.name] = Setting(hint, field.default, docs.get(field.name, ""))
    return found


def _docstrings(cls: type) -> dict[str, str]:
    """The docstring of each field from the source, inherited fields too."""
    found = {}
    for base in filter(dataclasses.is_dataclass, reversed(cls.__mro__)):
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except OSError:  # a class that was made where there is no file
            continue
        for pair in itertools.pairwise(ast.parse(source).body[0].body):  # type: ignore[attr-defined]
            match pair:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(text)):
                    found[name] = inspect.cleandoc(str(text))
    return found


def _bare(hint: Any) -> Any:
    return hint.__origin__ if get_origin(hint) is Annotated else hint


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_LIMITS = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}


def describe(hint: Any) -> str:
    """What a setting of this type may be, in words."""
    if get_origin(hint) is Annotated:
        said = [str(note) for note in hint.__metadata__ if isinstance(note, str | Registry)]
        limits = [
            f"{_LIMITS[name]} {number}"
            for note in hint.__metadata__
            for limit in getattr(note, "metadata", ())
            for name, number in dataclasses.asdict(limit).items()
        ]
        return said[0] if said else f"{describe(_bare(hint))} {' and '.join(limits)}".strip()
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(parts)}" if len(parts) > 1 else str(parts[0])
    if get_origin(hint) is tuple:
        return f"a comma-separated list, each {describe(parts[0])}"
    return " or ".join(map(describe, parts)) or _NAMES.get(hint, "none")


def explain(error: ValidationError, known: Mapping[str, Setting]) -> str:
    """The first complaint of pydantic's about settings in one sentence: the name, the value, what is allowed."""
    first = error.errors()[0]
    kind, value = first["type"], first["input"]
    key = ".".join(map(str, first["loc"]))
    if kind == "unexpected_keyword_argument":
        return f"{key}: unknown setting; {choices(key, known)}"
    if kind == "missing":
        return f"{key}: no value given, and there is no default"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        # What a class says of values that do not go together begins with the name of one of them.
        return f"{key}: {cause}" if key in known else ".".join(filter(None, [key, str(cause)]))
    while key not in known and "." in key:
        key = key.rpartition(".")[0]  # a part of a list or of a union
    if key not in known:
        return f"{key}: {value!r} is not allowed; {first['msg'][0].lower()}{first['msg'][1:]}"
    hint = known[key].hint
    if get_origin(_bare(hint)) is Literal:
        return f"{key}: {value!r} is unknown; {choices(str(value), get_args(_bare(hint)))}"
    allowed = "a finite number" if kind == "finite_number" else describe(hint)
    if isinstance(first["loc"][-1], int):
        allowed = allowed.rpartition("each ")[2]
    return f"{key}: {value!r} is not {allowed}"


def as_text(value: Any) -> str:
    """A value as the command line writes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


@dataclasses.dataclass(frozen=True)
class Choice:
    """A name in a registry, and name and value of each setting that it brings."""

    kind: str
    settings: tuple[tuple[str, Any], ...] = ()

    @pydantic.model_serializer
    def flat(self) -> dict[str, Any]:
        """``kind``, then the settings, by name."""
        return {"kind": self.kind, **dict(self.settings)}


class Entry(NamedTuple):
    """A class that a name stands for, as ``module:Class``, imported when it is needed; and a line for the help text."""

    path: str
    summary: str


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
        self.what, self.entries, self._outer = what, dict(entries), outer

    def __str__(self) -> str:
        return f"{'an' if self.what[0] in 'aeiou' else 'a'} {self.what} as NAME or NAME:KEY=VALUE,..."

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __getitem__(self, name: str) -> type[T]:
        """The class of a name. Raises KeyError."""
        loaded: type[T] = pkgutil.resolve_name(self.entries[name].path)
        return loaded

    def items(self) -> Iterator[tuple[str, type[T]]]:
        """Names and classes."""
        return ((name, self[name]) for name in self.entries)

    def settings(self, name: str) -> dict[str, Setting]:
        """The settings of a name: its own, then those that go with every name."""
        outer = settings_of(pkgutil.resolve_name(self._outer[0])) if self._outer else {}
        own = settings_of(self[name])
        return {key: setting for key, setting in own.items() if key not in outer} | outer

    def choice(self, value: Any) -> Choice:
        """The choice that ``name``, ``name:key=value,...`` or a mapping with ``kind`` means; imports no class.

        Raises AgentError for an unknown name, with the nearest right one, and for anything else.
        """
        if isinstance(value, Choice):
            return value
        given = {"kind": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping) or not isinstance(given.get("kind"), str):
            raise AgentError(f"{value!r} is not {self}")
        kind, _, rest = given["kind"].partition(":")
        if kind not in self.entries:
            raise AgentError(f"{kind!r} is unknown; {choices(kind, self.entries)}")
        found: dict[str, Any] = {}
        for item in filter(None, rest.split(",")):
            key, equals, text = item.partition("=")
            if not equals:
                raise AgentError(f"{item!r} in {given['kind']!r} is not of the form key=value")
            found[key.replace("-", "_")] = text
        found |= {key: part for key, part in given.items() if key != "kind"}
        return Choice(kind, tuple(found.items()))

    def read(self, value: Any, key: str = "") -> tuple[Choice, T]:
        """The choice that ``value`` means, with every setting of its class, checked; and its instance.

        Raises AgentError, which begins with ``key`` (by default ``what``), for what ``choice`` refuses, an unknown
        setting and a value that is not allowed.
        """
        known: dict[str, Setting] = {}
        try:
            choice = self.choice(value)
            known = self.settings(choice.kind)
            # As text, so that a truth value is none of the numbers.
            given = {name: as_text(part) for name, part in choice.settings}
            given |= {
                name: known[name].read(given[name]) for name in given.keys() & known.keys()
            }
            outer: dict[str, Any] = {}
            if self._outer:
                around = pkgutil.resolve_name(self._outer[0])
                part = {name: given.pop(name) for name in settings_of(around) if name in given}
                outer = values_of(_adapter(around).validate_python(part))
            made: T = _adapter(self[choice.kind]).validate_python(given)
            own = {name: part for name, part in values_of(made).items() if name not in outer}
            if self._outer:
                made = pkgutil.resolve_name(self._outer[1])(made, **outer)
            return Choice(choice.kind, tuple((own | outer).items())), made
        except ValidationError as error:
            dot, text = ".", explain(error, known)
        except AgentError as error:
            dot, text = ": ", str(error)
        raise AgentError(f"{key or self.what}{dot}{text.removeprefix(f'{self.what}: ')}")

    def make(self, value: Any) -> T:
        """The instance that ``value`` means; see ``read``."""
        return self.read(value)[1]

    def build(self, name: str, params: Mapping[str, Any]) -> T:
        """The class of a name with its defaults, except for ``params``; nothing around it.

        Raises AgentError for an unknown name or parameter and for a value that is not allowed.
        """
        cls = self[self.choice(name).kind]
        for key in [key for key in params if key not in settings_of(cls)]:
            raise unknown(f"{self.what}: parameter of {name!r}", key, settings_of(cls))
        return cls(**params)

    def short(self, value: Any) -> str | None:
        """The choice that ``value`` means as ``name:key=value,...``, settings that have their default left out."""
        if value is None:
            return None
        choice = self.read(value)[0]
        usual = dict(self.read(choice.kind)[0].settings)
        changed = [
            f"{key}={as_text(part)}" for key, part in choice.settings if part != usual[key]
        ]
        return ":".join(filter(None, [choice.kind, ",".join(changed)]))


@settings
class AgentConfig:
    """Base of all agent settings. Frozen: a run never changes its own settings.

    A class with checks of its own calls this ``__post_init__`` first, which completes the choices once all else is
    right, since that imports their classes.
    """

    def __post_init__(self) -> None:
        for name, setting in settings_of(type(self)).items():
            choice = getattr(self, name)
            if setting.registry and choice is not None:
                object.__setattr__(self, name, setting.registry.read(choice, name)[0])

    def brief(self, envs_per_task: int) -> Self:
        """Settings whose pieces of training are short, at the same cost of an env step; for estimates of speed."""
        return self
