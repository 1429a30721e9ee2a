"""Optimisation: parameter groups, learning rate schedules, unfreezing, weight averaging, memory and speed."""
