"""Measurements of a model on texts: hidden states, and the profile of intrinsic dimensions."""
