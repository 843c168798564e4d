"""Importing this module turns the process into a fork template, without external plugins."""

from docling_serve.subprocess_worker.child.template import preload

preload(allow_external_plugins=False)
