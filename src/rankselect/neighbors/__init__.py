"""Points and their exact nearest neighbours: duplicates, proven bounds, and the search itself."""
