"""Results as rows of pytest-benchmark: `document` writes its JSON, and our pytest plug-in starts `for_pytest`."""

__all__: list[str] = []
