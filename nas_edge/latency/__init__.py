"""Latency: kernels of a graph, a model fitted to measured networks, and the profile that holds it."""
