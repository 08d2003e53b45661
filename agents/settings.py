"""How settings are declared and checked: number types with ranges, frozen dataclasses, and choices by name.

pydantic reads, checks and describes them, as JSON schema; ``explain`` makes one sentence of what it refuses. Nothing
here imports torch, so that a command can list, explain and check settings before it loads anything.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    Self,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_type_hints,
)

import pydantic.dataclasses
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_serializer,
    with_config,
)
from pydantic.json_schema import GenerateJsonSchema

from mtrl.agents.errors import AgentError, unknown
from mtrl.envs.errors import UserError, choices

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Schema = dict[str, Any]
"""The JSON schema of one setting."""
Heads = Literal["multi-head", "one-hot", "separate"]


def _number(value: Any) -> Any:
    """Refuses True and False, which Python counts as numbers."""
    if isinstance(value, bool):
        raise ValueError("a truth value is not a number")
    return value


def _whole(value: Any) -> Any:
    """Reads 2e6, which YAML takes for a text."""
    return float(value) if isinstance(value, str) and "e" in value.lower() else _number(value)


Whole = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
Natural = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[float, Field(gt=0), BeforeValidator(_number)]
NonNegative = Annotated[float, Field(ge=0), BeforeValidator(_number)]
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_number)]
CONTINUOUS = Field(json_schema_extra={"only": "continuous actions"})
"""Marks a setting that does nothing where actions are discrete."""
_RULES = ConfigDict(
    extra="forbid", allow_inf_nan=False, validate_default=True, use_attribute_docstrings=True
)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, pydantic.Field))
def settings(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen dataclass that checks its fields; a wrong value raises AgentError with one sentence."""
    made: Any = cls
    made.__post_init__ = _after_choices(getattr(cls, "__post_init__", None))
    made = pydantic.dataclasses.dataclass(frozen=True, config=_RULES)(cls)
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


def _after_choices(own: Callable[[Any], None] | None) -> Callable[[Any], None]:
    """A ``__post_init__`` that completes the choices, which imports their classes, once all else is right."""

    def __post_init__(self: Any) -> None:
        for name, registry in registries(type(self)).items():
            choice = getattr(self, name)
            if choice is not None:
                object.__setattr__(self, name, registry.complete(choice, name))
        if own is not None:
            own(self)

    return __post_init__


def _cached(function: F) -> F:
    """``functools.cache`` for functions of classes, some of which mypy takes for unhashable."""
    return cast(F, functools.cache(function))


class _JsonSchema(GenerateJsonSchema):
    ignored_warning_kinds = {"non-serializable-default"}  # noqa: RUF012 - as in the base class


@_cached
def adapter(cls: type) -> TypeAdapter[Any]:
    """Reads and describes a dataclass under our rules, plain ones too."""
    return TypeAdapter(cls if hasattr(cls, "__pydantic_config__") else with_config(_RULES)(cls))


@_cached
def settings_of(cls: type) -> dict[str, Schema]:
    """Every setting of a dataclass by dotted name, in order; a choice is one setting."""
    inherited: dict[str, Schema] = {}
    for base in filter(dataclasses.is_dataclass, cls.__bases__):
        inherited |= settings_of(base)
    found: dict[str, Schema] = {}
    whole = adapter(cls).json_schema(schema_generator=_JsonSchema)
    for name, schema in whole.get("properties", {}).items():
        if "$ref" in schema:
            nested = settings_of(get_type_hints(cls)[name])
            found |= {f"{name}.{key}": part for key, part in nested.items()}
        else:
            # pydantic reads the docstrings of a class's own fields only.
            found[name] = {"description": ""} | inherited.get(name, {}) | schema
    return found


@_cached
def registries(cls: type) -> dict[str, Registry[Any]]:
    """The fields of a dataclass that are choices, each with the registry that it chooses from."""
    return {
        name: note
        for name, hint in get_type_hints(cls, include_extras=True).items()
        for part in (hint, *get_args(hint))  # where a choice may be left out, it is a part
        for note in getattr(part, "__metadata__", ())
        if isinstance(note, Registry)
    }


def explain(error: ValidationError, known: Mapping[str, Schema]) -> str:
    """The first complaint of pydantic's about settings in one sentence: the name, the value, what is allowed."""
    first = error.errors()[0]
    kind, value = first["type"], first["input"]
    cause = first.get("ctx", {}).get("error")
    key = ".".join(map(str, first["loc"]))
    if kind == "unexpected_keyword_argument":
        return f"{key}: unknown setting; {choices(key, known)}"
    if kind == "missing":
        return f"{key}: no value given, and there is no default"
    if isinstance(cause, UserError) and key not in known:
        # What a class says of values that do not go together begins with the name of one of them.
        return ".".join(filter(None, [key, str(cause)]))
    while key not in known and "." in key:
        key = key.rpartition(".")[0]  # a part of a list or of a union
    schema = known.get(key, {})
    if isinstance(cause, UserError):
        return f"{key}: {cause}"
    if kind == "finite_number":
        return f"{key}: {value!r} is not a finite number"
    if kind.startswith(("greater_than", "less_than")):
        return f"{key}: {value} is out of range; it must be {range_of(schema)}"
    if "enum" in schema:
        return f"{key}: {value!r} is unknown; {choices(str(value), map(str, schema['enum']))}"
    if not schema:
        return f"{key}: {value!r} is not allowed; {first['msg'][0].lower()}{first['msg'][1:]}"
    return f"{key}: {value!r} is not {describe(schema)}"


def parts(schema: Schema) -> list[Schema]:
    """The schema and those of its alternatives."""
    return [schema, *schema.get("anyOf", ())]


def allows_none(schema: Schema) -> bool:
    """Whether a setting may be left out."""
    return {"type": "null"} in parts(schema)


_BOUNDS = {
    "at least": ("minimum", "ge"),
    "greater than": ("exclusiveMinimum", "gt"),
    "at most": ("maximum", "le"),
    "less than": ("exclusiveMaximum", "lt"),
}
"""What pydantic writes for a range: the first name, or the second where a check comes before it."""
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "a text",
    "null": "none",
}


def range_of(schema: Schema) -> str:
    """The range of a number, or of the numbers in a list, in words that follow "must be"; empty if there is none."""
    numbers = [number for part in parts(schema) for number in (part, part.get("items", {}))]
    return " and ".join(
        f"{words} {number[name]}"
        for words, names in _BOUNDS.items()
        for name in names
        for number in numbers
        if name in number
    )


def describe(schema: Schema) -> str:
    """What a setting may be, in words, for messages and for the help text; its range apart."""
    if "anyOf" in schema:
        return " or ".join(map(describe, schema["anyOf"]))
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "items" in schema:
        return f"a comma-separated list, each {describe(schema['items'])}"
    return str(
        schema.get("words") or schema.get("const") or _TYPES.get(schema.get("type", ""), "anything")
    )


@dataclass(frozen=True)
class Choice:
    """A name in a registry, with every setting that it brings.

    Attributes:
        kind: the name.
        settings: name and value of each setting, in the order of the class's fields.
    """

    kind: str
    settings: tuple[tuple[str, Any], ...] = ()

    @model_serializer
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
        self._outer = outer and (Entry(outer[0], ""), Entry(outer[1], ""))
        article = "an" if what[0] in "aeiou" else "a"
        self.described = f"{article} {what} as NAME or NAME:KEY=VALUE,..."

    def __get_pydantic_json_schema__(self, core: object, handler: object) -> Schema:
        return {"type": "string", "words": self.described}

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __getitem__(self, name: str) -> type[T]:
        """The class of a name. Raises KeyError."""
        loaded: type[T] = self.entries[name].load()
        return loaded

    def items(self) -> Iterator[tuple[str, type[T]]]:
        """Names and classes."""
        return ((name, self[name]) for name in self.entries)

    def settings(self, name: str) -> dict[str, Schema]:
        """The settings of a name: its own, then those that go with every name."""
        outer = settings_of(self._outer[0].load()) if self._outer else {}
        own = settings_of(self[name])
        return {key: schema for key, schema in own.items() if key not in outer} | outer

    def choice(self, value: Any) -> Choice:
        """The choice that ``name``, ``name:key=value,...`` or a mapping with ``kind`` means; imports no class.

        Raises:
            AgentError: an unknown name, with the nearest right one, or something else.
        """
        if isinstance(value, Choice):
            return value
        given = {"kind": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            raise AgentError(f"{value!r} is not {self.described}")
        if "kind" not in given:
            raise AgentError(f"{dict(given)!r} has no kind; {choices('', self.entries)}")
        kind, _, rest = str(given["kind"]).partition(":")
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

    def complete(self, value: Any, key: str = "") -> Choice:
        """The choice that ``value`` means, with every setting of its class, checked.

        Args:
            value: anything that ``choice`` reads.
            key: what to call it in messages, by default ``what``.

        Raises:
            AgentError: an unknown name or setting, with the nearest right one, or a value that is not allowed.
        """
        return self._read(value, key)[0]

    def make(self, value: Any) -> T:
        """The instance that ``value`` means; see ``complete``."""
        return self._read(value, "")[1]

    def _read(self, value: Any, key: str) -> tuple[Choice, T]:
        known: dict[str, Schema] = {}
        try:
            choice = self.choice(value)
            known = self.settings(choice.kind)
            return self._made(choice, known)
        except ValidationError as error:
            text = explain(error, known)
        except AgentError as error:
            text = str(error)
        raise AgentError(f"{key or self.what}: {text.removeprefix(f'{self.what}: ')}")

    def _made(self, choice: Choice, known: Mapping[str, Schema]) -> tuple[Choice, T]:
        """The choice with its defaults, and its instance."""
        given = {key: _text(value) for key, value in choice.settings}
        self._refuse_unknown(choice.kind, given, known)
        outer: dict[str, Any] = {}
        if self._outer:
            around = self._outer[0].load()
            part = {key: given.pop(key) for key in settings_of(around) if key in given}
            outer = values_of(adapter(around).validate_python(part))
        made: T = adapter(self[choice.kind]).validate_python(given)
        own = {key: value for key, value in values_of(made).items() if key not in outer}
        if self._outer:
            made = self._outer[1].load()(made, **outer)
        return Choice(choice.kind, tuple((own | outer).items())), made

    def build(self, name: str, params: Mapping[str, Any]) -> T:
        """The class of a name with its defaults, except for ``params``; nothing around it.

        Raises:
            AgentError: no such name or parameter (the nearest one is named), or a value that is not allowed.
        """
        cls = self[self.choice(name).kind]
        self._refuse_unknown(name, params, settings_of(cls))
        return cls(**params)

    def _refuse_unknown(self, kind: str, given: Iterable[str], known: Iterable[str]) -> None:
        for key in given:
            if key not in known:
                raise unknown(f"{self.what}: parameter of {kind!r}", key, known)

    def short(self, choice: Choice) -> str:
        """The choice as ``name:key=value,...``, settings that have their default left out."""
        usual = self.complete(choice.kind).flat()
        changed = [f"{key}={_text(value)}" for key, value in choice.settings if value != usual[key]]
        return ":".join(filter(None, [choice.kind, ",".join(changed)]))


def _text(value: Any) -> Any:
    """A truth value as text, which Python counts as a number; other values as they are."""
    return str(value).lower() if isinstance(value, bool) else value


def values_of(config: Any) -> dict[str, Any]:
    """The settings of a dataclass by name, as JSON can hold them; a choice as a mapping with ``kind``."""
    values: dict[str, Any] = adapter(type(config)).dump_python(config, mode="json")
    return values


@settings
class AgentConfig:
    """Base of all agent settings. Frozen: a run never changes its own settings."""

    def brief(self, envs_per_task: int) -> Self:
        """Settings whose pieces of training are short, at the same cost of an env step; for estimates of speed."""
        return self
