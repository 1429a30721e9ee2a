"""Registries of the names that a config may use, one module a kind, none of which imports torch.

A registry maps a name to a row. A row has what the config check, the JSON Schema, the docs and the code that builds the
thing need: aliases, options, meaning, and the dotted path of the class or function.
"""
