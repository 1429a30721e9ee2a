"""Command lines: a parser with one-line errors, and exit codes."""

import argparse
import re
import signal
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from inference.common.errors import CheckFailed, UserError, is_interruption
from inference.common.paths import user_path
from inference.common.signals import STOP_SIGNALS, StopHandler, exit_status, raise_stopped, stop_signal
from inference.common.text import clean_lines, print_line, quoted

EXIT_CODES = {
    0: "done",
    1: "internal error",
    2: "invalid input",
    3: "a check failed",
    4: "some items of a batch failed",
    130: "interrupted",
    143: "stopped by SIGTERM or SIGUSR1",
}
"""Meaning of the exit codes of all commands."""


class Parser(argparse.ArgumentParser):
    """Argument parser that reports an error in one line and exits with 2.

    Args:
        prog: Command, as the user types it.
        description: One sentence that says what the command does.
        examples: Text of the help after the options; its line breaks are kept. The exit codes follow.
        check: What a failed check means (exit code 3); None for a command without one.
        batch: What the items of a batch are (exit code 4); None for a command without one.
        **options: Further arguments of `argparse.ArgumentParser`.
    """

    def __init__(
        self,
        prog: str,
        description: str,
        examples: str = "",
        check: str | None = None,
        batch: str | None = None,
        **options: Any,
    ) -> None:
        codes = [f"{code} {meaning}" for code, meaning in EXIT_CODES.items() if code not in (3, 4)]
        if batch is not None:
            codes.insert(3, f"4 some {batch} of a batch failed")
        if check is not None:
            codes.insert(3, f"3 {EXIT_CODES[3]} ({check})")
        epilog = f"{examples.strip()}\n\nexit codes: {', '.join(codes)}".strip()
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, epilog=epilog, formatter_class=formatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments, and exit with 2."""
        self.exit(2, f"{clean_lines(message)} ({self.prog} --help)\n")


def whole_number(text: str) -> int:
    """Convert the text of an option to a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{quoted(text)} is not a whole number (allowed: such as 4)") from None


def number(text: str) -> float:
    """Convert the text of an option to a number."""
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"{quoted(text)} is not a number (allowed: such as 0.5)") from None


def nodata_value(text: str) -> float | str:
    """Convert the text of an option to a nodata value: a number, nan or "none"."""
    if text.strip().lower() == "none":
        return "none"
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"{quoted(text)} (allowed: a number, nan, none)") from None


def band_numbers(text: str) -> list[int]:
    """Convert the text of an option, such as 3,2,1, to band numbers."""
    parts = text.removesuffix(",").split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,6}\s*", part) and int(part) for part in parts):
        raise ArgumentTypeError(f"{quoted(text)} (allowed: band numbers from 1, separated by commas, such as 3,2,1)")
    return [int(part) for part in parts]


def file_or_folder(text: str) -> Path:
    """Convert the text of an option to a path; `~` and variables are expanded."""
    try:
        return user_path(text, "")
    except UserError as error:
        raise ArgumentTypeError(str(error).removeprefix(": ")) from None


def exit_code(run: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Run a command and return its exit code.

    Args:
        run: The command; returns its exit code.
        interrupted: Message after Ctrl-C, SIGTERM and SIGUSR1.

    Returns:
        The result of `run`; 2 for invalid input, 3 for a failed check, 130 after Ctrl-C, 143 after SIGTERM and
        SIGUSR1, 1 where stdout was closed.
    """
    others = tuple(number for number in STOP_SIGNALS if number != signal.SIGINT)  # Python itself raises for SIGINT
    try:
        with StopHandler(raise_stopped, others):
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
        number = stop_signal(error)
        print_line(interrupted if number == signal.SIGINT else f"{interrupted} ({signal.Signals(number).name})")
        return exit_status(number)


def run_as_script(main: Callable[[], int]) -> NoReturn:
    """Run a command in a process of its own, and end the process with the command's exit code.

    Once the command is done, stop signals are ignored: while Python unloads its libraries, which takes up to a second,
    a signal would report finished work as failed.
    """
    code = main()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
