"""Merging an adapter into its base model, one file of weights at a time."""

from rankselect.adapters.merge.merge import MergeReport, merge_adapter

__all__ = ["MergeReport", "merge_adapter"]
