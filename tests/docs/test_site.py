"""The site shows every command, every option and every public name, and fetches nothing."""

from __future__ import annotations

import importlib.util
import re

import pytest
import yaml

import rrid_edge
from rrid_edge.cli.app import COMMANDS
from support.commands import rrid_edge as run
from support.programs import ROOT


def _hook():
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hook():
    return _hook()


@pytest.fixture(scope="module")
def pages(hook) -> dict[str, str]:
    return hook.command_pages()


def _commands() -> list[str]:
    """Every command by name, as the help texts list them."""
    names = []
    for name in COMMANDS:
        below = re.search(r"^Commands:\n((?:  .*\n?)+)", run(name, "--help").out, re.MULTILINE)
        names += [f"{name} {sub}" for sub in re.findall(r"^  (\w\S*)", below[1], re.MULTILINE)] if below else [name]
    return names


COMMAND_NAMES = _commands()


def test_the_commands_of_gallery_are_counted():
    assert {"match", "gallery list", "gallery forget"} <= set(COMMAND_NAMES)


def test_there_is_a_page_for_every_command_and_no_other(pages):
    expected = {f"commands/rrid-edge-{name.replace(' ', '-')}.md" for name in COMMAND_NAMES}
    assert set(pages) == {*expected, "commands/index.md"}
    assert all(f"[`rrid-edge {name}`](" in pages["commands/index.md"] for name in COMMAND_NAMES)


@pytest.mark.parametrize("name", COMMAND_NAMES)
def test_a_page_shows_usage_example_and_every_option(pages, name):
    page = pages[f"commands/rrid-edge-{name.replace(' ', '-')}.md"]
    help_text = run(*name.split(), "--help").out
    assert f"```\nrrid-edge {name} " in page
    assert f"```bash\nrrid-edge {name}" in page
    leading = re.findall(r"^  (--\S+(?:(?:, | / )--\S+)*)", help_text, re.MULTILINE)
    options = {option for names in leading for option in re.findall(r"--[a-z][\w-]*", names)} - {"--help"}
    assert options
    missing = [option for option in options if not re.search(rf"^\| `[^|]*{option}\b", page, re.MULTILINE)]
    assert not missing


def test_defaults_are_shown(pages):
    match = pages["commands/rrid-edge-match.md"]
    assert re.search(r"^\| `--top-k <.*\| `10` \|$", match, re.MULTILINE)
    assert re.search(r"^\| `--explain` .*\| off \|$", match, re.MULTILINE)
    assert re.search(r"^\| `QUERY... GALLERY` .*\| required \|$", match, re.MULTILINE)


def test_every_row_of_a_table_has_three_cells(pages):
    for path, page in pages.items():
        for line in page.splitlines():
            if path != "commands/index.md" and line.startswith("| "):
                assert len(re.findall(r"(?<!\\)\|", line)) == 4, line


def test_the_reference_has_every_public_name(hook):
    pages = hook.reference_pages()
    for name in rrid_edge.__all__:
        assert f"`rrid_edge.{name}`" in pages["reference/index.md"]
    modules = {getattr(rrid_edge, name).__module__ for name in rrid_edge.__all__ if name != "__version__"}
    filled = {module for page in pages.values() for module in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    assert filled == modules


def test_links_of_the_repository_become_links_of_the_site(hook):
    class Page:
        class file:  # noqa: N801
            src_uri = "index.md"

    assert (
        hook.on_page_markdown("[a](docs/python.md) [b](BENCHMARKS.md#cpu)", Page)
        == "[a](python.md) [b](benchmarks.md#cpu)"
    )
    Page.file.src_uri = "decisions/precision.md"
    assert hook.on_page_markdown("[b](../../BENCHMARKS.md)", Page) == "[b](../benchmarks.md)"


def test_every_page_is_in_the_navigation():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = set(re.findall(r"[\w/-]+\.md", str(config["nav"])))
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert named == written | set(_hook().ROOT_PAGES.values())


def test_the_site_fetches_nothing():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert config["theme"]["font"] is False
    assert "//" not in str([config.get("extra_css"), config.get("extra_javascript")])
