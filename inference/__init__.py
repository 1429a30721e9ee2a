"""Exported model and GeoTIFF to a map; runs without the rest of this project."""
