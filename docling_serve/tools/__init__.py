"""Programs for those who maintain this package."""
