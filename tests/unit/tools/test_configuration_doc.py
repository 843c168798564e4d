"""`docs/configuration.md` and the settings agree."""

import re
from pathlib import Path
from typing import Any

import pytest

from docling_serve.settings import GROUPS, SECRET_FIELDS, DoclingServeSettings, env_names
from docling_serve.tools.configuration_doc import main, render_configuration

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _rows() -> list[list[str]]:
    """The cells of every row that describes a setting."""
    lines = [line for line in render_configuration().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_page_of_the_repository_is_up_to_date() -> None:
    assert main(["--check", "--path", str(REPOSITORY / "docs" / "configuration.md")]) == 0


def test_every_setting_has_one_row_in_the_table_of_its_group() -> None:
    expected = [
        (name, env_names(name, group.owner))
        for group in GROUPS
        for name in group.model.model_fields
    ]
    shown = [(row[0].strip("`"), tuple(re.findall(r"`(\w+)`", row[1]))) for row in _rows()]
    assert shown == expected
    titles = re.findall(r"^## (.*)$", render_configuration(), re.MULTILINE)
    assert titles == [group.title for group in GROUPS]


def test_every_row_has_four_cells_and_a_description() -> None:
    assert all(len(row) == 4 and row[3] for row in _rows())


def test_the_defaults_shown_read_back_as_the_defaults() -> None:
    fields = DoclingServeSettings.model_fields
    written: dict[str, Any] = {
        row[0].strip("`"): row[2].strip("`")
        for row in _rows()
        if row[2].startswith("`") and row[0].strip("`") in fields
    }
    read = DoclingServeSettings(**written)
    assert len(written) > 50
    assert {name: getattr(read, name) for name in written} == {
        name: fields[name].get_default() for name in written
    }


def test_values_that_stay_hidden_are_marked() -> None:
    marked = {row[0].strip("`") for row in _rows() if row[3].endswith("(secret)")}
    assert marked == SECRET_FIELDS


def test_write_then_check_then_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    page = Path("docs/configuration.md")
    page.write_text(page.read_text().replace("`5001`", "`5002`"))
    assert main(["--check"]) == 1
    assert "is out of date" in capsys.readouterr().err
