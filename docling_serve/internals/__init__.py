"""Everything that depends on the internals of a library.

Each module names the version it was read from and the test that guards it.
"""
