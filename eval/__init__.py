"""Judging a model: how good its maps are, how surely, and where they fail."""
