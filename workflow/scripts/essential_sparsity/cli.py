"""How every program of the workflow ends: a wrong input is one line for a person, a bug is a traceback."""

import sys
from collections.abc import Callable


def run(main: Callable[[], None]) -> None:
    """Call a program's `main`; print `error: …` and exit with 1 for what its user can mend (ValueError, OSError)."""
    try:
        main()
    except (ValueError, OSError) as error:
        if isinstance(error, UnicodeError):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
