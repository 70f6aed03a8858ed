"""How a stranger's bytes are refused: one error for a person, whatever a library raises while it reads them."""

import contextlib
from collections.abc import Iterator

from essential_sparsity import errors

FETCH_AGAIN = "It is damaged, or was made to mislead: fetch it again, or do not use it."


class SourceError(errors.UserError):
    """A model or data set cannot be had as configured; the message says what to do."""


def option(name: str, value: str = "…") -> str:
    """How an option is given, to make and to the program."""
    return f"{name.upper().replace('-', '_')}={value} (without make: --{name})"


@contextlib.contextmanager
def reading(problem: str, then: str = FETCH_AGAIN) -> Iterator[None]:
    """Tell what a library raises inside as SourceError: the `problem`, which names the file; why; and `then` what to do."""
    try:
        yield
    except (errors.UserError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except MemoryError as error:
        raise SourceError(
            f"{problem} (it asks for more memory than there is). Use a machine with more, if it is as large as it should be."
        ) from error
    except BaseException as error:  # what a library in Rust raises is no Exception
        if isinstance(error, OSError) and error.errno in errors.OF_MACHINE:  # no fault of what is read
            raise
        raise SourceError(f"{problem} ({_why(error)}). {then}") from error


def _why(error: BaseException) -> str:
    """The first sentence of what a library says, with the kind of its error."""
    said = ""
    for line in filter(None, map(str.strip, str(error).splitlines())):
        said = f"{said} {line}".strip()
        if not line.endswith(":"):
            break
    return f"{type(error).__name__}: {said[:200].rstrip('.:')}" if said else type(error).__name__
