"""The report of a study: one page that opens from disk, and the same in Markdown."""
