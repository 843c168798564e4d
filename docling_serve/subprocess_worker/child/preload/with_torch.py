"""Importing this module adds torch to a fork template."""

from docling_serve.subprocess_worker.child.importing import import_torch

import_torch()
