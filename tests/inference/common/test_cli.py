"""Exit codes of the commands."""

import signal
import time
import weakref
from dataclasses import fields

import pytest

from inference.common.cli import Parser, exit_code
from inference.common.errors import CheckFailed, UserError
from inference.inference import parser
from inference.options import BACKEND_NAMES, DEVICE_NAMES, PRECISION_NAMES, WINDOW_NAMES, Options


def raising(error: BaseException, cause: BaseException | None = None) -> int:
    raise error from cause


@pytest.mark.parametrize(
    ("error", "cause", "code", "said"),
    [
        (UserError("a.yml: is empty"), None, 2, "a.yml: is empty\n"),
        (CheckFailed("they differ"), None, 3, "they differ\n"),
        (KeyboardInterrupt(), None, 130, "interrupted\n"),
        # NumPy, PyTorch and ONNX Runtime do this where Ctrl-C meets them while they are loaded.
        (ImportError("initialization failed"), KeyboardInterrupt(), 130, "interrupted\n"),
        (BrokenPipeError(), None, 1, ""),
    ],
)
def test_exit_codes(
    error: BaseException, cause: BaseException | None, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(lambda: raising(error, cause)) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_other_signals_stop_a_command_like_ctrl_c(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)  # the same request, sent to the process and its group: cleaning up goes on
            cleaned.append(True)
        return 0

    cleaned: list[bool] = []
    handler = signal.getsignal(number)
    assert exit_code(run, interrupted="interrupted; nothing was written") == 143
    assert capsys.readouterr().err == f"interrupted; nothing was written ({number.name})\n"
    assert cleaned
    assert signal.getsignal(number) is handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_a_callback_is_not_lost(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    """Python prints and drops errors in callbacks of weak references, and in finalisers."""

    def run() -> int:
        watched = type("Watched", (), {})()
        reference = weakref.ref(watched, lambda _: signal.raise_signal(number))
        del watched
        for _ in range(500):
            time.sleep(0.01)
        return 0 if reference() is None else 1

    assert exit_code(run) == (130 if number == signal.SIGINT else 143)
    assert "Traceback" not in capsys.readouterr().err


def test_our_own_faults_are_shown_whole() -> None:
    with pytest.raises(ImportError):
        exit_code(lambda: raising(ImportError("no module named x")))


def test_help_ends_with_the_exit_codes_that_a_command_has() -> None:
    plain, checked = Parser("a", "Do it."), Parser("b", "Do it.", examples="examples:\n  b c\n", check="it differs")
    assert (
        "exit codes: 0 done, 1 internal error, 2 invalid input, 130 interrupted, 143 stopped by SIGTERM or SIGUSR1"
        in " ".join(plain.format_help().split())
    )
    assert checked.format_help().endswith(
        "examples:\n  b c\n\n"
        "exit codes: 0 done, 1 internal error, 2 invalid input, 3 a check failed (it differs), "
        "130 interrupted, 143 stopped by SIGTERM or SIGUSR1\n"
    )


def test_an_error_of_the_arguments_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        Parser("a", "Do it.").parse_args(["--frobnicate"])
    assert left.value.code == 2
    assert capsys.readouterr().err == "unrecognized arguments: --frobnicate (a --help)\n"


def test_options_of_mapping_stand_in_help_with_their_defaults() -> None:
    text = " ".join(parser().format_help().split())
    for name in (*BACKEND_NAMES, *DEVICE_NAMES, *PRECISION_NAMES, *WINDOW_NAMES):
        assert name in text
    assert "share of a tile, 0 to 0.9 (default: 0.5)" in text
    offered = {action.dest for action in parser()._actions} - {"help", "sources", "target"}
    offered -= {"dry_run", "retries", "work_dir", "ray", "workers", "gpus_per_worker", "split_px"}  # of batches
    assert offered == {field.name for field in fields(Options)}
