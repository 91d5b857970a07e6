"""Optimizers: how an adapter's weights follow from its gradients."""
