"""What the documents say is so."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import click
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "docs" / "embedding.md").read_text("utf-8")


def test_the_pages_tables_are_those_that_were_measured() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "write_tables.py"))
    for name in script["PAGES"]:
        page = (ROOT / name).read_text("utf-8")
        assert "<!-- table: " in page
        assert script["with_tables"](page) == page, "run: python benchmarks/write_tables.py"


def test_every_option_that_the_guide_names_exists() -> None:
    import click

    from edgecls.cli import cli

    text = re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)
    named = re.findall(r"(?:^    |`)(edgecls [^`\n]+)", text, re.MULTILINE)
    assert len(named) > 8
    for line in named:
        name, *words = line.split("#")[0].split()[1:]
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, line
        options = {option for item in command.params for option in item.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_the_guides_ten_lines_run(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    from edgecls_runtime.golden import draw_picture

    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copy(models / "tiny.onnx", "model.onnx")
    exec(code, {})
    assert capsys.readouterr().out.startswith("photo.jpg: no such file")
    Image.fromarray(draw_picture(0)).save("photo.jpg")
    exec(code, {})
    assert capsys.readouterr().out.split()[0] in ("ant", "bee", "cat", "dog", "eel")


def test_what_the_guide_links_to_is_there() -> None:
    for target in re.findall(r"\]\((\.\./[^)#]+)\)", GUIDE):
        assert (ROOT / "docs" / target).exists(), target


def test_the_readmes_pictures_are_of_what_was_measured() -> None:
    plots = runpy.run_path(str(ROOT / "benchmarks" / "plots.py"))
    results = ROOT / "benchmarks" / "results"
    figures = plots["figures"](results)
    assert {f"benchmarks/results/{figure.name}.png" for figure in figures} == set(
        re.findall(r'src="([^"]+\.png)"', README)
    )
    for figure in figures:
        with Image.open(results / f"{figure.name}.png") as image:
            assert image.info["Description"] == figure.description, "run: python benchmarks/plots.py"


def every_command() -> dict[str, click.Command]:
    from edgecls.cli import cli

    with click.Context(cli) as context:
        found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def test_every_command_and_option_that_the_readme_names_exists() -> None:
    commands = every_command()
    named = set(re.findall(r"edgecls ([a-z]+)", README))
    assert set(commands) <= named, "a command that the README does not mention"
    for name, rest in re.findall(r"^\| `edgecls ([a-z]+)[^|]*` \|([^\n]*)", README.replace("\\|", "/"), re.MULTILINE):
        options = {option for item in commands[name].params for option in item.opts}
        assert set(re.findall(r"--[a-z][a-z0-9-]+", rest)) <= options, name


def test_every_make_target_that_the_documents_name_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    documents = README + (ROOT / "CONTRIBUTING.md").read_text("utf-8") + (ROOT / ".ci" / "run").read_text("utf-8")
    documents += (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    calls = re.findall(
        r"(?:^|`|run: |real_data )\s*make ((?:--\S+ )*[a-z][a-z-]*(?: [a-z][a-z-]*)*)", documents, re.MULTILINE
    )
    targets = {word for call in calls for word in call.split() if not word.startswith("--")}
    assert {"demo", "test", "lint", "test-runtime-alone"} <= targets
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("folder", ["edgecls", "export", "runtime", "tests", "benchmarks", "examples"])
def test_no_file_speaks_of_the_machine_it_was_written_on(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text("utf-8")
        assert "/work" + "/" not in text, path
        assert "/root" + "/" not in text, path


def test_help_of_every_command_fits_and_names_its_arguments() -> None:
    for name, command in every_command().items():
        assert command.help, name
        assert command.short_help or command.help.splitlines()[0].endswith("."), name
        with click.Context(command, info_name=name) as context:
            assert all(len(line) <= 110 for line in command.get_help(context).splitlines()), name
