"""Checks of several keys of a config together."""
