"""What the command lines have in common: errors in one line, and exit codes."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from inference.common.errors import CheckFailed, UserError, is_interruption


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line and leaves with 2."""

    def error(self, message: str) -> NoReturn:
        """Leaves; `message` says what is wrong with the arguments."""
        self.exit(2, f"{message} ({self.prog} --help)\n")


def exit_code(run: Callable[[], int], *mendable: type[Exception], interrupted: str = "interrupted") -> int:
    """Runs a command's work.

    Args:
        run: The work; gives the exit code.
        mendable: Errors, beside `UserError`, whose message is for the user.
        interrupted: What to say after Ctrl-C.

    Returns:
        What `run` gives; 2 where something is the user's to mend, 3 where a check failed, 130 after Ctrl-C, 1 where
        nobody reads what is printed any more.
    """
    caught: tuple[type[Exception], ...] = (UserError, *mendable)
    try:
        return run()
    except caught as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except CheckFailed as error:
        sys.stderr.write(f"{error}\n")
        return 3
    except BrokenPipeError:
        return 1
    except BaseException as error:
        if not is_interruption(error):
            raise
        sys.stderr.write(f"{interrupted}\n")
        return 130
