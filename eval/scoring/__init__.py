"""Counting pixels and turning the counts into scores with intervals."""
