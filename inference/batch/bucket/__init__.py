"""Batch whose maps go to a bucket: written locally, uploaded whole, and continued from the journal in the bucket."""
