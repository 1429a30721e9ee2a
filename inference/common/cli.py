"""Command lines: a parser with one-line errors, and exit codes."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from inference.common.errors import CheckFailed, UserError, is_interruption
from inference.common.text import clean_lines, print_line

EXIT_CODES = {0: "done", 1: "internal error", 2: "invalid input", 3: "a check failed", 130: "interrupted"}
"""Meaning of the exit codes of all commands."""


class Parser(argparse.ArgumentParser):
    """Argument parser that reports an error in one line and exits with 2.

    Args:
        prog: Command, as the user types it.
        description: One sentence that says what the command does.
        examples: Text of the help after the options; its line breaks are kept. The exit codes follow.
        check: What a failed check means (exit code 3); None for a command without one.
        **options: Further arguments of `argparse.ArgumentParser`.
    """

    def __init__(
        self, prog: str, description: str, examples: str = "", check: str | None = None, **options: Any
    ) -> None:
        codes = [f"{code} {meaning}" for code, meaning in EXIT_CODES.items() if code != 3]
        if check is not None:
            codes.insert(3, f"3 {EXIT_CODES[3]} ({check})")
        epilog = f"{examples.strip()}\n\nexit codes: {', '.join(codes)}".strip()
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, epilog=epilog, formatter_class=formatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments, and exit with 2."""
        self.exit(2, f"{clean_lines(message)} ({self.prog} --help)\n")


def exit_code(run: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Run a command and return its exit code.

    Args:
        run: The command; returns its exit code.
        interrupted: Message after Ctrl-C.

    Returns:
        The result of `run`; 2 for invalid input, 3 for a failed check, 130 after Ctrl-C, 1 where stdout was closed.
    """
    try:
        return run()
    except UserError as error:
        print_line(str(error))
        return 2
    except CheckFailed as error:
        print_line(str(error))
        return 3
    except BrokenPipeError:
        return 1
    except BaseException as error:
        if not is_interruption(error):
            raise
        print_line(interrupted)
        return 130
