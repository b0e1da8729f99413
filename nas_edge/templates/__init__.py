"""Plugins to begin with: what `nas-edge new-plugin` writes, with the author's name in place of `example`."""
