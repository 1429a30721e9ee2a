"""Comparison of our maps with those of Kelp-O-Matic (habitat-mapper)."""
