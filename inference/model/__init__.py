"""Exported models: choice, model cards, back ends, and conversion of their output to probabilities."""
