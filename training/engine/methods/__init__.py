"""Training methods: what is attached to a model and trained."""
