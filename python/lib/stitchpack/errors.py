"""What can go wrong, by whose fault it is. The classes mirror the library's errors, and carry their fields as attributes.

Match on classes and attributes; the words of messages may change between releases.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Type, Union

__all__ = [
    "StitchpackError",
    "IoError",
    "NotFound",
    "Malformed",
    "Unsupported",
    "IntegrityError",
    "DigestMismatch",
    "BaseMismatch",
    "LimitExceeded",
    "Refused",
    "InvalidInput",
    "MissingPackage",
    "Interrupted",
    "InternalError",
]


class StitchpackError(Exception):
    """Whatever this package raises."""

    exit_code: int = 70
    """The exit code of the command line for this error."""

    path: Optional[str] = None
    """The file in which the error was met."""

    @classmethod
    def _of(cls, message: str, **fields: Any) -> StitchpackError:
        error = cls(message)
        for name, value in fields.items():
            setattr(error, name, str(value) if name == "path" and value is not None else value)
        error._fields = fields
        return error

    _fields: Dict[str, Any] = {}

    def __reduce__(self) -> Tuple[Any, ...]:
        return _restore, (type(self), str(self), self._fields)

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def _restore(cls: Type[StitchpackError], message: str, fields: Dict[str, Any]) -> StitchpackError:
    return cls._of(message, **fields)


class IoError(StitchpackError, OSError):
    """The system refused: a full disk, a device error, a file that may not be read. Has ``errno`` and ``strerror``."""

    exit_code = 7


class NotFound(IoError, FileNotFoundError):
    """A file or folder is not there."""


class Malformed(StitchpackError):
    """A file breaks the rules of its format."""

    exit_code = 3
    rule: str
    """The rule of ``spec/`` that is broken, such as ``HDR-1``."""
    place: str
    """Where it was seen: the section, the tensor, the field."""
    detail: str
    """What was found and what was expected."""


class Unsupported(StitchpackError):
    """A legal file that needs a newer version of this package."""

    exit_code = 8
    what: str
    found: Union[int, str]
    """The number, or the name, that the file asks for."""
    known: Union[int, str]
    """The newest number, or the names, that this version knows."""


class IntegrityError(StitchpackError):
    """Bytes are not the bytes that were written: damage or tampering."""

    exit_code = 4


class DigestMismatch(IntegrityError):
    """A digest differs."""

    place: str
    """The section or file whose digest differs."""
    expected: str
    found: str


class BaseMismatch(StitchpackError):
    """The pack was made from another base."""

    exit_code = 5
    diagnosis: str
    advice: str
    tensors: List[Tuple[str, str]]
    """Up to five tensors that differ, each with the reason."""
    differing: int
    touched: int
    expected: str
    found: Optional[str]


class Refused(StitchpackError):
    """Well-formed, but against a policy: an output that exists, an overlap under ``refuse``, a value that would overflow."""

    exit_code = 6


class LimitExceeded(Refused):
    """The file asks for more than is allowed."""

    limit: str
    asked: int
    allowed: int


class InvalidInput(StitchpackError, ValueError):
    """The caller asked for something that makes no sense."""

    exit_code = 2


class MissingPackage(StitchpackError, ImportError):
    """An optional package is needed for this; the message says which."""

    exit_code = 2


class Interrupted(StitchpackError):
    """The progress function returned False. Nothing was written."""

    exit_code = 130


class InternalError(StitchpackError):
    """A bug of this package; please report it."""
