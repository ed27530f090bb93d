"""Help of every command: complete, in 80 columns, by ``help`` and as man pages."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from rrid_edge.cli.app import COMMANDS, app, register
from rrid_edge.cli.exit_codes import EXIT_CODES
from rrid_edge.cli.options import RuntimeOption
from rrid_edge.engines.opening import RUNTIMES
from rrid_edge.machine.variables import VARIABLES
from support.commands import refused, rrid_edge

ROOT = Path(__file__).parents[3]


def _walk(path: tuple[str, ...], command: Any) -> list[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "commands", {})
    return [(path, command), *(one for name, child in below.items() for one in _walk((*path, name), child))]


def _all() -> list[tuple[tuple[str, ...], Any]]:
    register()
    return _walk((), typer.main.get_command(app))


ALL = dict(_all())
NAMES = [" ".join(path) for path in ALL]


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", NAMES)
def test_every_option_and_argument_has_help(name):
    for parameter in ALL[tuple(name.split())].params:
        assert getattr(parameter, "help", None), parameter.name


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_80_columns_and_cuts_nothing(name):
    text = rrid_edge(*name.split(), "--help").out
    assert text
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"\w\.\.\.$", text, re.MULTILINE)


def test_commands_are_listed_in_the_order_of_the_readme():
    rows = re.findall(r"^\| `rrid-edge ([\w-]+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == list(COMMANDS)
    listed = re.findall(r"^  ([a-z][\w-]*)  ", rrid_edge("--help").out, re.MULTILINE)
    assert listed == rows


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_prints_what_its_option_prints(name):
    outcome = rrid_edge("help", *name.split())
    assert outcome.code == 0
    assert outcome.out == rrid_edge(*name.split(), "--help").out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("macth",), "there is no command 'macth'; did you mean match? See: rrid-edge help"),
        (("search",), "there is no command 'search'; did you mean match? See: rrid-edge help"),
        (("gallery", "exprt"), "there is no command 'exprt'; did you mean export? See: rrid-edge help gallery"),
        (("match", "now"), "match has no commands below it, so not 'now' either; see: rrid-edge help match"),
        (("qqqq",), "there is no command 'qqqq'; see: rrid-edge help"),
    ],
)
def test_an_unknown_command_is_one_line_with_the_nearest_name(words, expected):
    outcome = rrid_edge("help", *words)
    refused(outcome, 2, expected)
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("option", ["--debug", "-v"])
def test_an_option_of_the_program_behind_a_command_is_refused_with_its_place(option):
    outcome = rrid_edge("info", option)
    refused(outcome, 2, f"option {option} is given after the command; expected it before: rrid-edge {option} info")
    assert "before" not in rrid_edge("info", "--nothing").err


def test_examples_of_two_lines_are_one_command_to_a_shell():
    text = rrid_edge("match", "--help").out.partition("Example:\n")[2]
    assert text.count("\\\n") == 1
    declared = ALL[("match",)].epilog.removeprefix("Example: ")
    assert shlex.split(text.replace("\\\n", "")) == shlex.split(declared)  # a shell removes both characters


def test_completion_of_a_runtime_offers_all_of_them():
    option = RuntimeOption.__metadata__[0]  # type: ignore[attr-defined]
    assert option.autocompletion("") == list(RUNTIMES)
    assert option.autocompletion("openvino-") == ["openvino-gpu", "openvino-npu"]


def _offers(parameter: Any) -> list[str]:
    """What completion of an option or argument offers without a word, by Typer's own means."""
    items = parameter.shell_complete(typer.Context(ALL[()]), "")
    return [item.value for item in items if getattr(item, "type", "plain") == "plain"]


def test_completion_offers_only_words_of_the_help():
    found = 0
    for name, command in ALL.items():
        for parameter in command.params:
            if name == ("help",) or not (offers := _offers(parameter)):
                continue
            found += 1
            words = set(re.findall(r"[\w-]+", parameter.help or ""))
            assert set(offers) - words <= {"rtx"}, (name, parameter.name)
    assert found > 20


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    outcome = rrid_edge("help", "--man", folder / "man1")
    assert outcome.code == 0
    assert outcome.out == f"written: {len(ALL)} man pages in {folder / 'man1'}\n"
    return folder / "man1"


def test_there_is_a_man_page_for_every_command(manual):
    expected = {"-".join(("rrid-edge", *path)) + ".1" for path in ALL}
    assert {path.name for path in manual.iterdir()} == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_man_page_has_its_sections_and_every_option(manual, name):
    words = tuple(name.split())
    text = (manual / ("-".join(("rrid-edge", *words)) + ".1")).read_text(encoding="ascii")
    sections = re.findall(r"^\.SH (.+)$", text, re.MULTILINE)
    assert text.startswith('.TH "RRID\\-EDGE')
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert sections[-1] == "SEE ALSO"
    assert {"OPTIONS", "EXIT STATUS"} <= set(sections)
    plain = text.replace("\\-", "-")
    assert re.search(rf"^{'-'.join(('rrid-edge', *words))} - \S", plain, re.MULTILINE)
    assert all(f"\\fB{option}\\fR" in plain for one in ALL[words].params for option in one.opts if option[:1] == "-")
    # A line that begins with a full stop or an apostrophe is a request: only those of this writer are there.
    requests = set(re.findall(r"^[.'](\S*)", text, re.MULTILINE))
    assert requests <= {"TH", "ad", "nh", "SH", "B", "TP", "nf", "RS", "RE", "fi"}


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_groff_formats_every_page_without_a_warning(manual):
    pages = sorted(map(str, manual.iterdir()))
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-rLL=78n", "-P-c", *pages], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    shown = re.sub(r".\x08|\x1b\[[\d;]*m", "", done.stdout)
    assert "rrid-edge-match - rank a gallery for the person in the query images" in shown
    assert "rrid-edge match [OPTIONS] QUERY... GALLERY" in shown
    assert "-o, --output path" in shown
    assert "--index-type str" in shown


def test_man_pages_are_for_all_commands_and_need_a_folder(tmp_path):
    refused(rrid_edge("help", "match", "--man", tmp_path), 2, "all commands at once", "(option --man)")
    (tmp_path / "file").touch()
    refused(rrid_edge("help", "--man", tmp_path / "file"), 2, "file: this is a file; expected a folder")


def test_exit_codes_and_variables_are_those_of_the_documentation():
    for page in ("commands.txt", "getting-started.md"):
        table = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE)
        assert {int(code): meaning.replace("`", "") for code, meaning in table} == EXIT_CODES, page
    said = " ".join(rrid_edge("--help").out.split())
    assert all(f"{code} {meaning}" in said for code, meaning in EXIT_CODES.items())
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "rrid_edge").rglob("*.py"))
    read = set(re.findall(r"\"(RRID_EDGE_[A-Z_]+)\"", sources))
    assert read == set(VARIABLES)
    assert {name for name, found in VARIABLES.items() if not found.manual} == {
        "RRID_EDGE_MILVUS_PYTHON"
    }  # of the tests
