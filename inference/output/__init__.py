"""Output: GeoTIFF files, the map with its metadata, and the summary."""
