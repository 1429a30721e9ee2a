"""Writing the map, its metadata and its summary."""
