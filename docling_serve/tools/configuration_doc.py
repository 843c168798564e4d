"""Write `docs/configuration.md` from the settings, or check that it still agrees with them.

python -m docling_serve.tools.configuration_doc [--check] [--path docs/configuration.md]
"""

import inspect
import sys
from collections.abc import Sequence

from pydantic import ByteSize, TypeAdapter

from docling_serve.settings import GROUPS, SECRET_FIELDS, SettingsGroup, env_names
from docling_serve.tools.env_example import format_env_value
from docling_serve.tools.generated_file import write_or_check

_HEADER = """\
# Configuration

<!-- Generated from the settings, do not edit: python -m docling_serve.tools.configuration_doc -->

Every setting, in the groups of `.env.example`. From strong to weak a value comes from:

1. the options of `docling-serve run` (address, TLS, `--artifacts-path`, `--enable-ui`),
2. a variable of the process environment,
3. a line in `.env` in the working directory,
4. the config file named by `DOCLING_SERVE_CONFIG_FILE` (YAML or JSON, a mapping of the names in
   the first column),
5. the default.

- An empty variable counts as not set, except where a description gives it a meaning.
- Booleans are `true` or `false`. Lists are written as the description says.
- Sizes are bytes, or a number with a unit: `4GB` is 4,000,000,000 bytes, `4GiB` is 4,294,967,296.
- The variables with the prefix `UVICORN_` are not read from the config file.
- An unknown `DOCLING_SERVE_` variable is reported at start, with the nearest known name.
- `docling-serve config check` prints the settings in force with their origin, warns of unknown ones
  and of those that have no effect here, and ends with 1 where a server would not start.
- (secret) marks a value that is never shown in logs or errors.
"""
_BYTES = TypeAdapter(ByteSize)
_COLUMNS = ("Setting", "Variable", "Default", "What it does")


def render_configuration() -> str:
    """The text of `docs/configuration.md`: one table per group, one row per setting."""
    return _HEADER + "".join(_render_group(group) for group in GROUPS)


def _render_group(group: SettingsGroup) -> str:
    intro = " ".join((inspect.getdoc(group.model) or "").split("\n\n")[0].split())
    rows = [_COLUMNS, ("---",) * len(_COLUMNS)]
    rows += [_cells(group, name) for name in group.model.model_fields]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"\n## {group.title}\n\n{intro}\n\n{table}"


def _cells(group: SettingsGroup, field_name: str) -> tuple[str, str, str, str]:
    field = group.model.model_fields[field_name]
    variables = "<br>".join(f"`{name}`" for name in env_names(field_name, group.owner))
    secret = " (secret)" if field_name in SECRET_FIELDS else ""
    text = " ".join((field.description or "").split()) + secret
    return f"`{field_name}`", variables, _default(field.get_default()), text.replace("|", "\\|")


def _default(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, ByteSize) and value:
        shown = (value.human_readable(decimal=decimal) for decimal in (False, True))
        exact = (text for text in shown if _BYTES.validate_python(text) == value)
        return f"`{next(exact, int(value))}`"
    text = format_env_value(value)
    return f"`{text}`" if text else "empty"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or with ``--check`` compare it; 1 when it differs or is missing."""
    return write_or_check(
        "docling_serve.tools.configuration_doc", "docs/configuration.md", render_configuration, argv
    )


if __name__ == "__main__":
    sys.exit(main())
