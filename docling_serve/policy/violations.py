"""The refusal of a request that is well-formed but asks for what this server does not do."""

from __future__ import annotations

from fastapi import HTTPException


class PolicyViolation(HTTPException):
    """Status 422 with a plain text that names what is allowed."""

    def __init__(self, detail: str) -> None:
        super().__init__(status_code=422, detail=detail)
