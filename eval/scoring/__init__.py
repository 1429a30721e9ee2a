"""Pixel counts, the scores computed from them, and bootstrap confidence intervals."""
