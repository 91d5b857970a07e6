"""Model families: all that the engine must know of an architecture."""
