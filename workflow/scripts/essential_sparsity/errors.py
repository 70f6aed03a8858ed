"""What a user can mend: one class, and what a disk says no to; everything else keeps its traceback. Standard library only."""

import errno

# what the machine, or its file system, says no to, whatever is read or written: full, over a quota, damaged, not allowed, read-only
OF_MACHINE = {
    errno.ENOSPC: "Free some space there",
    errno.EDQUOT: "Free some space there, or ask for a larger quota",
    errno.EIO: "Ask whoever keeps the disk",
    errno.EACCES: "Make it yours to use, or work in a folder that is",
    errno.EROFS: "Mount it for writing, or work in a folder that is",
}


class UserError(ValueError):
    """Something outside the code is wrong; the message names what was found, what was expected and what to do.

    `of_machine`: with the machine that this runs on, not with the input; another attempt may get another one.
    """

    of_machine = False
