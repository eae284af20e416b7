"""Adapters on disk: reading, attaching, merging, and exporting them to serving engines."""
