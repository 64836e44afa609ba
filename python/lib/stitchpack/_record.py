"""What the library reports as JSON, with attributes."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable


class Record:
    """A report, or a part of one: its fields are attributes, named as the command's ``--json`` names them."""

    def __init__(self, fields: Dict[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            return _wrap(self.__dict__["_fields"][name])
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name}") from None

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self._fields]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._fields)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self._fields == other._fields

    def to_dict(self) -> Dict[str, Any]:
        """All fields, as JSON has them."""
        return json.loads(json.dumps(self._fields))  # type: ignore[no-any-return]


def _wrap(value: Any) -> Any:
    if isinstance(value, list):
        return [_wrap(item) for item in value]
    # What the maker of a pack wrote on it has keys of its own.
    is_record = isinstance(value, dict) and all(key.isidentifier() for key in value)
    return Record(value) if is_record else value
