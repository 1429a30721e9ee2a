"""Evaluation of models on labelled images: scores, confidence intervals, reports, comparison with Kelp-O-Matic."""
