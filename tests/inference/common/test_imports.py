"""Imports without the garbage collector."""

import gc

import pytest

from inference.common.imports import large_imports


def test_the_collector_pauses_and_goes_on() -> None:
    with large_imports():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_goes_on_after_a_failed_import() -> None:
    with pytest.raises(ImportError), large_imports():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with large_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
