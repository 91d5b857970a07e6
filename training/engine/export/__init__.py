"""Files for other programs: names, metadata, verification."""
