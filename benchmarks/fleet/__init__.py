"""Load on several gateways and hosts at once, with kills of every part."""
