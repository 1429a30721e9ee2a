"""Optimisation: parameter groups, schedules, unfreezing, averaging, precision."""
