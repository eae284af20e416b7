"""Merging an adapter into its base model, one file of weights at a time."""

from rankselect.adapters.merge.merge import merge_adapter
from rankselect.adapters.merge.report import MergeReport

__all__ = ["MergeReport", "merge_adapter"]
