"""Entry point of ``docling-serve`` and ``python -m docling_serve``.

Kept free of imports: a spawned worker imports its parent's main module again.
"""


def main() -> None:
    """Run the command line interface."""
    from docling_serve.cli import app  # noqa: PLC0415 - see above

    app()


if __name__ == "__main__":
    main()
