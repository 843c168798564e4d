"""Write `.env.example` from the settings, or check that the file still agrees with them.

python -m docling_serve.tools.env_example [--check] [--path .env.example]
"""

import inspect
import json
import sys
import textwrap
from collections.abc import Sequence
from enum import Enum

from docling_serve.settings import GROUPS, SettingsGroup, env_names
from docling_serve.tools.generated_file import write_or_check

_WIDTH = 98
_HEADER = """\
# Settings of docling-serve, each with its default. Copy this file to .env, remove the # before
# a setting and change its value; a variable of the process environment wins over it.
#
# An empty value counts as not set. Booleans: true or false. Generated, do not edit:
#   python -m docling_serve.tools.env_example
"""


def render_env_example() -> str:
    """The text of `.env.example`: every setting once, commented out, in its group."""
    return _HEADER + "".join(_render_group(group) for group in GROUPS)


def format_env_value(value: object) -> str:
    """A setting's value as text that the environment or `.env` can hold; empty for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return str(value)


def _render_group(group: SettingsGroup) -> str:
    rule = "=" * (_WIDTH - len(group.title) - 6)
    intro = (inspect.getdoc(group.model) or "").split("\n\n")[0]
    fields = "".join(f"\n{_render_field(group, name)}" for name in group.model.model_fields)
    return f"\n\n# == {group.title} {rule}\n{_comment(intro)}\n{fields}"


def _render_field(group: SettingsGroup, field_name: str) -> str:
    field = group.model.model_fields[field_name]
    variable, *others = env_names(field_name, group.owner)
    text = field.description or ""
    if others:
        text += f" Also read from {', '.join(others)}."
    return f"{_comment(text)}\n#{variable}={format_env_value(field.get_default())}\n"


def _comment(text: str) -> str:
    return textwrap.fill(
        " ".join(text.split()),
        width=_WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or with ``--check`` compare it; 1 when it differs or is missing."""
    return write_or_check(
        "docling_serve.tools.env_example", ".env.example", render_env_example, argv
    )


if __name__ == "__main__":
    sys.exit(main())
