"""Data and a model that come with the library, for tests, lessons and first steps without a download."""
