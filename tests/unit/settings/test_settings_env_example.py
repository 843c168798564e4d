"""`.env.example` and the settings agree."""

import re
from collections import Counter
from pathlib import Path

import pytest

from docling_serve.settings import GROUPS, DoclingServeSettings, UvicornSettings, env_names
from docling_serve.tools.env_example import format_env_value, main, render_env_example

REPOSITORY = Path(__file__).parents[3]
SETTING = re.compile(r"^#([A-Z][A-Z0-9_]*)=", re.MULTILINE)


def test_the_file_of_the_repository_is_up_to_date() -> None:
    assert main(["--check", "--path", str(REPOSITORY / ".env.example")]) == 0


def test_every_setting_is_there_once_under_its_group() -> None:
    text = render_env_example()
    expected = [
        env_names(name, group.owner)[0] for group in GROUPS for name in group.model.model_fields
    ]
    assert SETTING.findall(text) == expected
    assert set(Counter(expected).values()) == {1}
    titles = re.findall(r"^# == (.*?) =+$", text, re.MULTILINE)
    assert titles == [group.title for group in GROUPS]


def test_every_setting_is_commented_out_and_no_line_is_long() -> None:
    lines = render_env_example().splitlines()
    assert all(not line or line.startswith("#") for line in lines)
    assert all(len(line) <= 98 for line in lines)


def test_the_values_shown_are_the_defaults() -> None:
    default = (DoclingServeSettings().model_dump(), UvicornSettings().model_dump())
    Path(".env").write_text(SETTING.sub(r"\1=", render_env_example()))
    loaded = (DoclingServeSettings().model_dump(), UvicornSettings().model_dump())
    assert loaded == default


def test_write_then_check_then_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    path = Path(".env.example")
    path.write_text(path.read_text().replace("#UVICORN_PORT=5001", "#UVICORN_PORT=5002"))
    assert main(["--check"]) == 1
    assert "is out of date" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "true"), (0.5, "0.5"), (["a"], '["a"]'), ({"a": 1}, '{"a": 1}')],
)
def test_values_as_text(value: object, text: str) -> None:
    assert format_env_value(value) == text
