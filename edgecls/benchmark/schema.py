"""JSON Schema of our documents, from the dataclasses that read and write them: ``python -m edgecls.benchmark.schema``.

``bench-1.schema.json`` beside this module is what it prints; a test holds one against the other.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from typing import Any, Literal

from edgecls.benchmark.document import SCHEMA, STAGES, Document

__all__ = ["bench_schema", "schema_of"]

_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", types.NoneType: "null"}


def bench_schema() -> dict[str, Any]:
    """Return the JSON Schema of `edgecls.benchmark.document.Document` as a file has it."""
    schema = schema_of(Document, SCHEMA)
    schema["$defs"]["Measured"]["properties"]["stages_ms"]["propertyNames"] = {"enum": list(STAGES)}
    return schema


def schema_of(document: type[Any], name: str) -> dict[str, Any]:
    """Return the JSON Schema, draft 2020-12, of a dataclass whose JSON has its name and version under ``schema``.

    The descriptions come from the docstrings. A dataclass may hold numbers, texts, literals, others like itself, and
    tuples and dicts of those.

    Args:
        document: the dataclass.
        name: say ``edgecls.bench/1``.
    """
    definitions: dict[str, Any] = {}
    schema = _object(document, definitions)
    schema["properties"] = {"schema": {"const": name}, **schema["properties"]}
    schema["required"] = ["schema", *schema["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{name.replace('/', ':')}",
        "title": name,
        **schema,
        "$defs": definitions,
    }


def _object(cls: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    hints, texts = typing.get_type_hints(cls), _descriptions(cls)
    properties = {}
    for field in dataclasses.fields(cls):
        properties[field.name] = _type(hints[field.name], definitions)
        if field.name in texts:
            properties[field.name]["description"] = texts[field.name]
    return {
        "description": (inspect.getdoc(cls) or "").partition("\n\n")[0],
        "type": "object",
        "properties": properties,
        # What has a default may be missing, as in the files of an older minor version.
        "required": [
            field.name
            for field in dataclasses.fields(cls)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ],
        "additionalProperties": False,
    }


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        cls = typing.cast("type[Any]", hint)
        if cls.__name__ not in definitions:
            definitions[cls.__name__] = {}  # its place, before those within it
            definitions[cls.__name__] = _object(cls, definitions)
        return {"$ref": f"#/$defs/{cls.__name__}"}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_type(argument, definitions) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _type(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1], definitions)}
    return {"type": _JSON_TYPES[hint]}


def _descriptions(cls: type[Any]) -> dict[str, str]:
    """Return what the docstring says of each attribute, on one line each."""
    _, _, listed = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


if __name__ == "__main__":
    print(json.dumps(bench_schema(), indent=2))  # noqa: T201
