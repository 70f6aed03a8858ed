"""Programs called one after another in one process, since loading torch is what takes time.

Lines of JSON in (program and arguments), lines of JSON out (exit code and all that it printed).
"""

import contextlib
import gc
import importlib
import io
import json
import os
import sys
from pathlib import Path

from essential_sparsity import cli

sys.path.append(str(Path(__file__).parents[1]))
importlib.import_module("definitions").keep()

out = os.fdopen(os.dup(1), "w")  # what libraries print past Python's stdout is no answer
os.dup2(2, 1)
for line in sys.stdin:
    program, *arguments = json.loads(line)
    said, code, sys.argv = io.StringIO(), 0, [f"{program}.py", *arguments]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.run(importlib.import_module(program).main)
        except SystemExit as error:
            code = error.code
        except Exception:  # as the interpreter would end
            sys.excepthook(*sys.exc_info())
            code = 1
    print(json.dumps([code, said.getvalue()]), file=out, flush=True)
    gc.freeze()  # each training collects garbage, and would look at all modules again
