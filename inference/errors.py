"""Errors that are the user's to mend: one clear line each, exit code 2, no traceback."""


class UserError(Exception):
    """Input that we can't work with.

    The message is written for the person at the keyboard: it names the file or the option, what was found, what is
    allowed and how to mend it. One line a problem: several that were found together are joined by newlines.
    """


def first_line(error: BaseException) -> str:
    """What went wrong at the bottom of a chain of errors, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def of_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the bottom of an error; a library that is just being loaded makes an ImportError of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
