"""How every program of the workflow ends: a wrong input is one line for a person, a bug is a traceback."""

import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from essential_sparsity import errors


def run(main: Callable[[], None]) -> None:
    """Call a program's `main`; print `error: program: …` (`error of this machine: …`) and exit with 1 for what its user can mend
    (UserError), and for a disk that is full, over its quota, read-only or not theirs where Python says so (OSError). Where nobody reads
    what it prints any more (`make estimate | head`) it ends with 1.

    All other errors of Python and of libraries are nobody's wording for a user: they keep their traceback.
    """
    try:
        main()
        print(end="", flush=True)  # also where there is no output at all
    except errors.UserError as error:
        _end(error.of_machine, str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _unread():
            sys.exit(1)
        if error.errno not in errors.OF_MACHINE:
            raise
        named = error.filename2 or error.filename
        place = os.fsdecode(named) if isinstance(named, (str, bytes)) else f"{Path.cwd()}, or where temporary files go"
        _end(True, f"{place}: {os.strerror(error.errno)}. {errors.OF_MACHINE[error.errno]}, and run the same again.")


def _unread() -> bool:
    """Whether the reader of what is printed has gone; nothing is printed from there, not at the end either."""
    asked = select.poll()
    asked.register(sys.stdout, 0)
    if not any(events & select.POLLERR for _, events in asked.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _end(of_machine: bool, said: str) -> NoReturn:
    what = "error of this machine" if of_machine else "error"
    print(f"{what}: {Path(sys.argv[0]).stem}: {said}", file=sys.stderr)
    sys.exit(1)
