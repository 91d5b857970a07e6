"""Measurements, as ratios taken in one run: machines are noisy."""
