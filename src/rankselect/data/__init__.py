"""Rows and texts: read from files and data sets, put into prompts, turned into tokens."""
