"""Choosing, loading and running an exported model."""
