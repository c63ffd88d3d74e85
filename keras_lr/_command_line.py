"""Detection of the command line, which has to answer faster than Keras can be imported."""

import os
import sys
from itertools import pairwise


def is_command_line() -> bool:
    """Return whether the script ``keras-lr`` or ``python -m keras_lr`` started this process."""
    program = os.path.basename((sys.argv or [""])[0])
    if program == "-m":
        # Python is looking for the module to run, and first imports the packages around it.
        return ("-m", __package__) in pairwise(sys.orig_argv)
    return program in ("keras-lr", "keras-lr.exe")
