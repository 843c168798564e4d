"""Entry point of ``docling-serve`` and ``python -m docling_serve``.

Kept free of imports of ours: a spawned worker imports its parent's main module again.
"""

import sys


def main() -> None:
    """Run the command line interface."""
    from docling_serve.cli.main import app  # noqa: PLC0415 - see above

    app()


if __name__ == "__main__":
    if len(sys.argv) == 1:  # started as a module: run the server
        sys.argv.append("run")
    main()
