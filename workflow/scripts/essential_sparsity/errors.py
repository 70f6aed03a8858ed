"""What a user can mend: one class, so that everything else keeps its traceback. Standard library only."""


class UserError(ValueError):
    """Something outside the code is wrong; the message names what was found, what was expected and what to do.

    `of_machine`: with the machine that this runs on, not with the input; another attempt may get another one.
    """

    of_machine = False
