"""Errors that are the user's to mend: one clear line each, exit code 2, no traceback."""


class UserError(Exception):
    """Input that we can't work with.

    The message is written for the person at the keyboard: it names the file, the line or the key, what was found,
    what is allowed and how to mend it. A command prints it on stderr and exits with 2. One line a problem: several
    problems that were found together are joined by newlines.
    """


class CheckFailed(Exception):
    """A check that a command makes has failed: an exported file that answers otherwise, two maps that differ.

    The message says what was compared and how far apart it is. A command prints it on stderr and exits with 3.
    """


def of_interruption(error: BaseException) -> bool:
    """Whether Ctrl-C is at the bottom of an error; a library that is just being loaded makes an ImportError of it.

    The twin of `inference.errors.of_interruption`: of `inference`, training may take the card alone.
    """
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, KeyboardInterrupt):
        chain = chain.__cause__ or chain.__context__
    return chain is not None
