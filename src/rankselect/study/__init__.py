"""Studies that compare rank choices on your own model and data."""
