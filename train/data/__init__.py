"""Reading of GeoTIFF pairs as windows: files, labels, statistics, normalisation, and the demo data set."""
