"""Mapping of many mosaics by one command that can be stopped and started again."""
