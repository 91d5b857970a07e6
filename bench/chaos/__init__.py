"""Faults of every kind, and the proof that no training loses or doubles anything: `make chaos`."""
