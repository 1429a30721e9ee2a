"""Failures of an attempt that may pass when it is made again, and those that can't."""

import os

import pytest

from inference.batch.failure import may_pass
from inference.common.errors import UserError


@pytest.mark.parametrize(
    ("text", "source", "passes"),
    [
        ("o.tif: can't be written: No space left on device (0 MiB are free in its folder)", "in.tif", True),
        ("/o: 1 MiB are free, up to 2 MiB may be needed (make room, or write elsewhere)", "in.tif", True),
        ("o.tif: can't be written: Permission denied (choose another OUT.tif)", "in.tif", False),
        ("in.tif: can't be read from row 0, column 0, 9x9 pixels: TIFFReadEncodedTile", "in.tif", False),
        ("s3://404/in.tif: can't be read as an image: HTTP response code: 503", "s3://404/in.tif", True),
        ("s3://b/in.tif: can't be read as an image: HTTP response code: 404", "s3://b/in.tif", False),
        ("s3://b/in.tif: has 2 bands, the model needs band 3", "s3://b/in.tif", False),
    ],
)
def test_what_may_pass(text: str, source: str, passes: bool) -> None:
    assert may_pass(UserError(text), source) is passes


def test_errors_of_the_system_may_pass() -> None:
    for number, passes in ((5, True), (104, True), (2, False), (13, False)):
        error = UserError("in.tif: can't be read")
        error.__context__ = OSError(number, os.strerror(number))
        assert may_pass(error, "in.tif") is passes
