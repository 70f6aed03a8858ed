"""Only what changed runs again, in one call: each edit of a finished study, planned exactly, and run once (`changes`)."""

import pytest
from changes import ALIKE, CHANGES, FRESH, same


@pytest.mark.parametrize("change", CHANGES)
def test_what_runs_again(study, fresh, change):
    edited, expected = CHANGES[change]
    before = study.results()
    edited(study)
    assert study.planned() == expected
    if not expected or change in ALIKE:
        return
    study.run()
    assert study.planned() == {}, "one call is enough"
    if change in FRESH:
        same(study.results(), fresh(study).results())
    elif change.startswith("a lost"):
        same(study.results(), before)
