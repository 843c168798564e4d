"""The REST interface: routers by tag, and what they share."""

from docling_serve.api.application import make_app

__all__ = ["make_app"]
