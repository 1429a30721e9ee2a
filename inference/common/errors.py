"""Errors that the user can fix: one clear line each, exit code 2, no traceback."""


class UserError(Exception):
    """Error in the user's input.

    The message names the file, the line, the key or the option, what was found, what is allowed and how to fix it. It
    has one line per problem. A command prints it on stderr and exits with 2.
    """


class CheckFailed(Exception):
    """Failure of a check that a command makes: an exported file differs from its checkpoint, or two maps differ.

    The message says what was compared and by how much it differs. A command prints it on stderr and exits with 3.
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
