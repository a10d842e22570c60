"""Results as rows of pytest-benchmark: `document` writes its JSON, `for_pytest` is what our pytest plug-in starts."""

__all__: list[str] = []
