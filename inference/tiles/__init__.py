"""Tiles of an image: strips, positions, reading, blending, symmetries and resampling."""
