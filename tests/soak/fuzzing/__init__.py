"""What schemathesis runs with in ``test_fuzz.py``."""
