"""What a request may ask of this server."""

from docling_serve.policy.registry import Registry
from docling_serve.policy.service import ServicePolicy
from docling_serve.policy.violations import PolicyViolation

__all__ = ["PolicyViolation", "Registry", "ServicePolicy"]
