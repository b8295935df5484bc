"""JSON schemas that clients want an answer to follow: a grammar is built of each, so it has to stay small."""

import json
from typing import Any

from emollm.serve.guard.errors import Refused
from emollm.serve.guard.limits import Limits

_MAX_REPEATS = 256
_REPEATS = frozenset(["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"])
# Regular expressions can take exponential time to compile. Where a keyword is the name of a property, it is refused
# too, unless its value tells the difference.
_REFUSED = frozenset(["pattern", "patternProperties", "contentSchema", "$dynamicRef", "$recursiveRef"])


def check_schema(schema: Any, limits: Limits) -> None:
    """Refused unless ``schema`` is a small JSON schema without regular expressions and references to elsewhere."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            _check_keywords(value)
            waiting += value.values()
    if len(json.dumps(schema)) > limits.schema_bytes:
        raise Refused(f"The schema of the answer is larger than the limit of {limits.schema_bytes:,} bytes.", 413)


def _check_keywords(schema: dict[str, Any]) -> None:
    for word in sorted(_REFUSED & schema.keys()):
        if word != "pattern" or isinstance(schema[word], str):
            raise Refused(f"The schema of the answer must not use '{word}'.")
    for word in sorted(_REPEATS & schema.keys()):
        if isinstance(schema[word], int | float) and schema[word] > _MAX_REPEATS:
            raise Refused(f"The schema of the answer must not use '{word}' over {_MAX_REPEATS}.")
    reference = schema.get("$ref", "#")
    if isinstance(reference, str) and not reference.startswith("#"):
        raise Refused("The schema of the answer must not refer to other documents.")
