"""Pages of the site that have another source: a hook of mkdocs.

The commands' pages come from the command line itself, the Python reference from the docstrings, and the home page, the
measurements, the changes and the contributors' page from the files at the root of the repository.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rrid_edge

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {
    "README.md": "index.md",
    "BENCHMARKS.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files at the root of the repository, and where they stand in the site."""

_ROLE = re.compile(r":(?:class|data|func|meth|mod|attr):<code>~?([^<]+)</code>")


def command_pages() -> dict[str, str]:
    """One Markdown page per command, by its path in the site."""
    import typer

    from rrid_edge.cli.app import app, register

    register()
    found: list[tuple[str, Any]] = []
    _walk("rrid-edge", typer.main.get_command(app), found)
    pages = {f"commands/{name.replace(' ', '-')}.md": _command_page(name, command) for name, command in found}
    rows = [
        f"| [`{name}`]({name.replace(' ', '-')}.md) | {_cell(_first_sentence(command.help))} |"
        for name, command in found
    ]
    lines = ["# Commands", "", "| command | does |", "|---|---|", *rows, ""]
    return {"commands/index.md": "\n".join(lines) + (ROOT / "docs" / "commands.txt").read_text("utf-8"), **pages}


def _walk(name: str, command: Any, found: list[tuple[str, Any]]) -> None:  # noqa: ANN401 - Typer brings its own Click
    for own, child in sorted(getattr(command, "commands", {}).items()):
        if hasattr(child, "commands"):
            _walk(f"{name} {own}", child, found)
        else:
            found.append((f"{name} {own}", child))


def _command_page(name: str, command: Any) -> str:  # noqa: ANN401
    context = command.context_class(command, info_name=name)
    usage = " ".join([name, *(_place_holder(item) for item in command.collect_usage_pieces(context))])
    lines = [f"# {name}", "", _text(command.help), ""]
    if example := (command.epilog or "").removeprefix("Example: "):
        lines += ["```bash", example, "```", ""]
    lines += ["## Usage", "", "```", usage, "```", ""]
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        parameters = [item for item in command.params if item.param_type_name == kind and not item.hidden]
        if parameters:
            head = f"| {kind} | meaning | default |"
            lines += [f"## {title}", "", head, "|---|---|---|", *(_row(item, context) for item in parameters), ""]
    return "\n".join(lines)


def _place_holder(piece: str) -> str:
    """``{folder}`` and ``[paths]...`` as help texts write them: ``FOLDER``, ``[PATHS]...``."""
    many = "{QUERY... " in piece  # the command names the parts of its list itself
    return piece.replace("{", "").replace("}..." if many else "}", "").upper()


def _row(parameter: Any, context: Any) -> str:  # noqa: ANN401
    shown = parameter.get_help_record(context)[0]
    if parameter.param_type_name == "argument":
        shown = shown.partition(" <")[0].upper()
    return f"| `{_cell(shown)}` | {_cell(_text(parameter.help))} | {_default(parameter)} |"


def _default(parameter: Any) -> str:  # noqa: ANN401
    if parameter.required:
        return "required"
    if getattr(parameter, "is_flag", False):
        return "on" if parameter.default is True else "off"
    value = parameter.default
    if not isinstance(value, str | int | float | Path) or value == "":
        return ""
    return f"`{value}`"


def _text(help_text: str | None) -> str:
    """A help text as Markdown: what looks like an option, a file or a place holder is shown as it is typed."""
    text = " ".join((help_text or "").split())
    text = re.sub(r"(?<![\w`-])(--[a-z][\w-]*(?:=\S+)?)", r"`\1`", text)
    return text.replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")


def _first_sentence(help_text: str | None) -> str:
    return _text(re.split(r"(?<=\.)\s", " ".join((help_text or "").split()))[0])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def reference_pages() -> dict[str, str]:
    """One Markdown page per public module, by its path in the site; ``mkdocstrings`` fills them."""
    modules = sorted({f"rrid_edge.{module}" for module in rrid_edge._MODULES.values()})
    rows = [
        f"| [`rrid_edge.{name}`][rrid_edge.{module}.{name}] | `rrid_edge.{module}` |"
        for name, module in sorted(rrid_edge._MODULES.items())
    ]
    lines = [
        "# Python reference",
        "",
        "Import the names from `rrid_edge` itself. [From Python](../python.md) shows each of them in a program.",
        "",
        "| name | module |",
        "|---|---|",
        "| `rrid_edge.__version__` | `rrid_edge` |",
        *rows,
        "",
    ]
    pages = {f"reference/{module.removeprefix('rrid_edge.')}.md": f"# {module}\n\n::: {module}\n" for module in modules}
    return {"reference/index.md": "\n".join(lines), **pages}


def root_pages() -> dict[str, str]:
    """The files at the root of the repository, by their path in the site."""
    return {page: (ROOT / source).read_text("utf-8") for source, page in ROOT_PAGES.items()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the commands and the modules into the navigation."""
    for section in config.nav or []:
        if "Commands" in section:
            section["Commands"] = [_entry(path, "rrid-edge-") for path in command_pages()]
        for entry in section.get("Python", []):
            if "Reference" in entry:
                entry["Reference"] = [_entry(path, "rrid_edge.") for path in reference_pages()]
    return config


def _entry(path: str, prefix: str) -> str | dict[str, str]:
    """A page in the navigation: without the words that all its neighbours begin with."""
    name = Path(path).name.removesuffix(".md")
    if name == "index":
        return path
    title = name.removeprefix(prefix)
    if title.startswith(("engine-", "gallery-")):  # groups of commands
        title = title.replace("-", " ")
    return {title: path}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for path, content in {**root_pages(), **command_pages(), **reference_pages()}.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn links that work in the repository into links that work in the site."""
    up = "../" * page.file.src_uri.count("/")
    for source, target in ROOT_PAGES.items():
        markdown = re.sub(rf"\]\((?:\.\./)*{re.escape(source)}", f"]({up}{target}", markdown)
    if page.file.src_uri in ROOT_PAGES.values():
        markdown = markdown.replace("](docs/", "](")
    return markdown


def on_page_content(html: str, **_: object) -> str:
    """Show the names that docstrings refer to without Sphinx's roles."""
    return _ROLE.sub(r"<code>\1</code>", html)
