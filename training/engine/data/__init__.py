"""Pictures and captions: reading, buckets, order, caches."""
