"""Estimators of the intrinsic dimension: points in, one number with its standard error out."""
