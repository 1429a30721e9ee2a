"""Exit codes of the commands."""

import pytest

from inference.common.cli import exit_code
from inference.common.errors import CheckFailed, UserError


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


def test_our_own_faults_are_shown_whole() -> None:
    with pytest.raises(ImportError):
        exit_code(lambda: raising(ImportError("no module named x")))
