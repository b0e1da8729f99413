"""The search spaces that ship with nas_edge, each written only against its public API."""
