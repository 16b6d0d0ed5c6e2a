"""What people type, as the structs that the APIs decode from JSON; what does not fit is told beside its field.

A form's fields are called as the members of its struct. Of what browsers cannot say otherwise:

* members of a struct in it are `outer.inner`; a list is a field that comes several times, or one with a line each;
* a list of structs is `outer.0.inner`, `outer.1.inner`, …; one whose required members are all empty is none;
* a map of texts is fields `name[key]`, or two that come several times, `name.key` and `name.value`; any other map, and
  whatever has no form of its own, is a field with JSON in it;
* a box that is not ticked comes as `false` (the component sends that before it); an empty field is None where the
  member may be that, "" where it is a text, and otherwise a member that is absent;
* a time without a zone is UTC.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct, inspect

from gateway.api.texts import is_text
from gateway.refusals import DoesNotFit, Malformed, Refusal
from schemas.sentences import choices_of, named, patterns_of, sentence

TOKEN = "form_token"  # noqa: S105
"""The field that every form has beside its own (see `gateway.api.session_cookie`)."""
_SECRET = re.compile(r"(^|[._])(password|again|secret|token|credential)$")
_ZONELESS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")
_TEXT_WITHOUT_MEANING = "Holds characters that no text has"

Typed = Mapping[str, Sequence[str]]
NOTHING: Typed = MappingProxyType({})


class Form(Struct, frozen=True):
    """A form that was sent and did not fit, as its page shows it again; or an empty one."""

    name: str = ""
    """Of the function that took it: a page may have several forms."""
    typed: Mapping[str, Sequence[str]] = {}
    errors: Mapping[str, str] = {}
    """By field; what is about none of them, or about all, stands under ""."""

    def of(self, name: str) -> "Form":
        """This form if it is the one of that function, else an empty one."""
        return self if name == self.name else Form(name)

    def value(self, name: str, otherwise: Any = "") -> Any:
        """What was typed, or else what the page would show."""
        return self.typed[name][-1] if self.typed.get(name) else otherwise

    def values(self, name: str, otherwise: Sequence[Any] = ()) -> Sequence[Any]:
        """Likewise, of a field that comes several times."""
        return self.typed.get(name, ()) if self.typed else otherwise

    def rows(self, name: str) -> int:
        """How many rows were typed of a list that has fields for each."""
        numbers = [one.removeprefix(f"{name}.").partition(".")[0] for one in self.typed if one.startswith(f"{name}.")]
        return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)

    def error(self, name: str) -> str:
        """What is wrong with a field; "" where nothing is."""
        return self.errors.get(name, "")


EMPTY = Form()


class DoesNotFitFields(DoesNotFit):
    """A form does not fit, with what is wrong by field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = errors


def is_secret(name: str) -> bool:
    """Whether a field is a password or the like, which no page and no browser keeps for later."""
    return name != TOKEN and _SECRET.search(name) is not None


def errors_of(refusal: Refusal, kind: Any) -> Mapping[str, str]:
    """What is wrong with a form, by field, for any refusal of what it asked for."""
    if isinstance(refusal, DoesNotFitFields):
        return refusal.errors
    fields = [field.encode_name for field in msgspec.structs.fields(kind)] if _is_struct(kind) else []
    # Sentences of refusals begin with the member that they are about.
    begun = [name for name in fields if re.match(rf"{re.escape(named(name, ''))}\b", refusal.text)]
    about = max(begun, key=len, default="")
    key = re.match(rf"{re.escape(named(about, ''))}\.(\S+)", refusal.text)  # of a map, whose fields are name[key]
    return {f"{about}[{key[1]}]" if about and key else about: refusal.text}


def decode(kind: type[Struct], typed: Typed) -> Any:
    """The struct that a form says. Raises DoesNotFitFields with all that is wrong, Malformed for an unknown field."""
    patterns = patterns_of(kind) | choices_of(kind)
    errors: dict[str, str] = {}
    decoded = _members(kind, typed, "", patterns, errors)
    if errors:
        raise DoesNotFitFields(errors)
    return decoded


def _members(kind: type[Struct], typed: Typed, within: str, patterns: Any, errors: dict[str, str]) -> Any:
    fields = msgspec.structs.fields(kind)
    known = {field.encode_name for field in fields}
    for name in typed:
        member = re.split(r"[.\[]", name.removeprefix(within), maxsplit=1)[0]
        if name.startswith(within) and member not in known and name != TOKEN:
            raise Malformed(f"The form has a field {name[:64]} that is not known here")
    given: dict[str, Any] = {}
    wrong = len(errors)
    for field in fields:
        name = within + field.encode_name
        info = inspect.type_info(field.type)
        structs = [one.cls for one in _options(info) if isinstance(one, inspect.StructType)]
        if structs and name not in typed and any(one.startswith(f"{name}.") for one in typed):
            given[field.name] = _members(structs[0], typed, f"{name}.", patterns, errors)
            continue
        row = _struct_of_rows(info)
        if row and name not in typed and any(one.startswith(f"{name}.") for one in typed):
            given[field.name] = _rows(row, typed, name, patterns, errors)
            continue
        try:
            value = _value(info, name, typed)
            if value is not msgspec.UNSET:
                given[field.name] = msgspec.convert(value, field.type, strict=False)
            elif field.required:
                errors[name] = "Can't be blank"
        except msgspec.ValidationError as error:
            errors[name] = _without_member(sentence(error, _of_field(patterns, field.encode_name)))
        except (msgspec.DecodeError, RecursionError) as error:
            errors[name] = f"Is not valid JSON: {error}"
        except UnicodeError:
            errors[name] = _TEXT_WITHOUT_MEANING
    if len(errors) > wrong:
        return None
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        errors[within.rstrip(".")] = str(error)
        return None


def _rows(kind: type[Struct], typed: Typed, name: str, patterns: Any, errors: dict[str, str]) -> list[Any]:
    """The structs of a list, each of which has fields of its own."""
    numbers = {number for one in typed if (number := one.removeprefix(f"{name}.").partition(".")[0]).isdecimal()}
    asked = [one.encode_name for one in msgspec.structs.fields(kind) if one.required]
    found = []
    for number in sorted(numbers, key=int):
        within = f"{name}.{number}."
        if any(text.strip() for member in asked for text in typed.get(within + member, ())):
            found.append(_members(kind, typed, within, patterns, errors))
    return found


def _struct_of_rows(info: inspect.Type) -> type[Struct] | None:
    for one in _options(info):
        if isinstance(one, inspect.ListType) and isinstance(one.item_type, inspect.StructType):
            return one.item_type.cls
    return None


def _of_field(patterns: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Patterns of a struct as those of one field of it, which is decoded alone."""
    return {re.sub(rf"^(choices at )\.{re.escape(name)}", r"\1", pattern): text for pattern, text in patterns.items()}


def _without_member(text: str) -> str:
    return text[:1].upper() + text[1:]


def _value(info: inspect.Type, name: str, typed: Typed) -> Any:
    """What a field says, as `msgspec.convert` takes it; UNSET for nothing. Raises UnicodeError, DecodeError."""
    options = _options(info)
    kinds = {type(option) for option in options}
    if inspect.DictType in kinds and f"{name}.key" in typed:
        pairs = zip(typed[f"{name}.key"], typed.get(f"{name}.value", ()), strict=False)
        return {_text(key): _text(value) for key, value in pairs if key or value}
    if inspect.DictType in kinds and (named_keys := [one for one in typed if one.startswith(f"{name}[")]):
        return {_text(one[len(name) + 1 : -1]): _text(typed[one][-1]) for one in named_keys}
    if name not in typed:
        return msgspec.UNSET
    texts = [_text(one) for one in typed[name]]
    last = texts[-1]
    if kinds & {inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType}:
        if _holds_structs(options):
            return msgspec.json.decode(last) if last.strip() else []
        return [line for text in texts for line in text.splitlines() if line.strip()]
    if inspect.StrType in kinds:
        return None if last == "" and inspect.NoneType in kinds else last
    if not last.strip():
        return None if inspect.NoneType in kinds else msgspec.UNSET
    if kinds & {inspect.DictType, inspect.AnyType, inspect.RawType, inspect.StructType}:
        return msgspec.json.decode(last)
    if inspect.DateTimeType in kinds and _ZONELESS.fullmatch(last):
        return datetime.fromisoformat(last).replace(tzinfo=UTC)
    return last.strip()


def _text(text: str) -> str:
    if not is_text(text):
        raise UnicodeError
    return text.replace("\r\n", "\n")


def _options(info: inspect.Type) -> list[inspect.Type]:
    if isinstance(info, inspect.Metadata):
        return _options(info.type)
    if isinstance(info, inspect.UnionType):
        return [option for one in info.types for option in _options(one)]
    return [info]


def _holds_structs(options: Sequence[inspect.Type]) -> bool:
    return any(
        isinstance(inner, inspect.StructType | inspect.DictType | inspect.AnyType)
        for option in options
        if isinstance(option, inspect.CollectionType)
        for inner in _options(option.item_type)
    )


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)
