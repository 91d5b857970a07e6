"""Random models of every architecture, small enough for a processor and made without a network."""
