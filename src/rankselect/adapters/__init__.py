"""What surrounds an adapter: the memory its training takes, merging it, and exporting it to serving engines."""
