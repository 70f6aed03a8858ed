"""How every program of the workflow ends: a wrong input is one line for a person, a bug is a traceback."""

import sys
from collections.abc import Callable
from pathlib import Path

from essential_sparsity import errors


def run(main: Callable[[], None]) -> None:
    """Call a program's `main`; print `error: program: …` (`error of this machine: …`) and exit with 1 for what its user can mend
    (UserError).

    Errors of Python and of libraries are nobody's wording for a user: they keep their traceback.
    """
    try:
        main()
    except errors.UserError as error:
        what = "error of this machine" if error.of_machine else "error"
        print(f"{what}: {Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(1)
