"""Losses, one idea a file. A class that ends in `Loss` is a loss of the config by being defined here.

`train/configs/registries/losses.py` reads these files: the first line of the docstring is the meaning, the keyword-only
arguments are the options, with their types (from `train/configs/fields.py`), defaults and docs.
"""
