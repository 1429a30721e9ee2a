"""Batch on Ray: workers on one machine or on many, each of which holds the model."""
