"""Programs for maintainers of this package."""
