"""What the documents say is so."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_readmes_tables_are_those_that_were_measured() -> None:
    with_tables = runpy.run_path(str(ROOT / "benchmarks" / "write_tables.py"))["with_tables"]
    assert "<!-- table: " in README
    assert with_tables(README) == README, "run: python benchmarks/write_tables.py"


def test_every_command_and_option_that_the_readme_names_exists() -> None:
    from edgecls.cli import cli

    named = set(re.findall(r"edgecls ([a-z]+)", README))
    commands = set(cli.commands)
    assert commands <= named, "a command that the README does not mention"
    for name, rest in re.findall(r"^\| `edgecls ([a-z]+)[^|]*` \|([^\n]*)", README.replace("\\|", "/"), re.MULTILINE):
        options = {option for item in cli.commands[name].params for option in item.opts}
        assert set(re.findall(r"--[a-z][a-z0-9-]+", rest)) <= options, name


def test_every_make_target_that_the_documents_name_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    documents = README + (ROOT / "CONTRIBUTING.md").read_text("utf-8") + (ROOT / ".ci" / "run").read_text("utf-8")
    documents += (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    calls = re.findall(r"(?:^|`|run: )\s*make ([a-z][a-z-]*(?: [a-z][a-z-]*)*)", documents, re.MULTILINE)
    targets = {target for call in calls for target in call.split()}
    assert {"demo", "test", "lint", "test-runtime-alone"} <= targets
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("folder", ["edgecls", "export", "runtime", "tests", "benchmarks", "examples"])
def test_no_file_speaks_of_the_machine_it_was_written_on(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text("utf-8")
        assert "/work" + "/" not in text, path
        assert "/root" + "/" not in text, path


def test_help_of_every_command_fits_and_names_its_arguments() -> None:
    from edgecls.cli import cli

    for name, command in cli.commands.items():
        assert command.help, name
        assert command.short_help or command.help.splitlines()[0].endswith("."), name
        with click.Context(command, info_name=name) as context:
            assert all(len(line) <= 110 for line in command.get_help(context).splitlines()), name
