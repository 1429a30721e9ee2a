"""Errors that the user can fix: one clear line each, exit code 2, no traceback."""


class UserError(Exception):
    """Report input that can't be processed.

    The message is written for the person at the keyboard: it names the file, the line, the key or the option, what was
    found, what is allowed and how to mend it. A command prints it on stderr and exits with 2. One line a problem:
    several problems that were found together are joined by newlines.
    """


class CheckFailed(Exception):
    """Report that a check a command makes has failed: an exported file that answers otherwise, two maps that differ.

    The message says what was compared and how far apart it is. A command prints it on stderr and exits with 3.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of the error at the bottom of a chain; its type where it has no text."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def is_interruption(error: BaseException | None) -> bool:
    """Return True if Ctrl-C is at the bottom of an error; a library being imported may turn it into an ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
