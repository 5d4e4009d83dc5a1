"""How deep JSON is nested, found before it is parsed: depth must cost no stack."""

import re
from typing import Final

#: A string that is never closed runs to the end, so that no place is looked at twice.
_STRING_OR_BRACKET: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)


def deeper_than(text: str, most: int) -> bool:
    """Whether brackets outside of strings nest deeper than `most`; what follows broken JSON does not matter."""
    if text.count("[") + text.count("{") <= most:
        return False
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        bracket = token[0]
        if bracket in "[{":
            depth += 1
            if depth > most:
                return True
        elif bracket in "]}":
            depth -= 1
    return False
