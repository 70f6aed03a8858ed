"""lm-eval's 14,000 definitions are read once a process, not ten seconds long for each evaluation."""

import lm_eval.tasks
from lm_eval.tasks import _index

BROUGHT = [lm_eval.tasks.__path__[0]]


def keep() -> None:
    """From now on in this process, an index of lm-eval's own definitions alone is a copy of the first."""
    found: dict = {}
    build = _index.TaskIndex.build

    def kept(paths, **more):
        if more or list(map(str, paths)) != BROUGHT:
            return build(paths, **more)
        found.update(found or build(paths))
        return dict(found)

    if build.__name__ != kept.__name__:
        _index.TaskIndex.build = staticmethod(kept)
