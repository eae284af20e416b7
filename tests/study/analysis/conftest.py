"""The order of these tests."""


def pytest_collection_modifyitems(items):
    """The numbers of a whole study first: hardly a fault gets past them, so that a run which stops at it ends early."""
    items.sort(key=lambda item: item.path.name != "test_golden.py")
