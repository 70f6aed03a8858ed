"""What a user can mend: one class, so that everything else keeps its traceback. Standard library only."""


class UserError(ValueError):
    """Something outside the code is wrong; the message names what was found, what was expected and what to do."""
