"""Importing this module turns the process into a fork template, external plugins included."""

from docling_serve.subprocess_worker.child.template import preload

preload(allow_external_plugins=True)
