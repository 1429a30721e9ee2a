"""From GeoTIFF pairs to windows: files, labels, statistics and the demo data set."""
