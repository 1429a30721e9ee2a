"""Mosaics that several processes predict in row bands, and one joins."""
