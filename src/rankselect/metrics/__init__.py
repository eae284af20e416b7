"""Scores of generated answers: a base class, metrics with confidence intervals, and a judge."""
