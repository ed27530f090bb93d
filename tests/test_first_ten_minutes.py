"""The walk through the first ten minutes: in its short form, and its parts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from first_ten_minutes.documents import commands_of, pages
from first_ten_minutes.forms import forms_of, too_wide
from first_ten_minutes.reasons import Extras, Reasons
from first_ten_minutes.records import differences, entry, file_of, read_record, write_record
from first_ten_minutes.running import Limits, in_files, in_terminal
from first_ten_minutes.screen import Screen
from first_ten_minutes.walking import Walk, compare, record
from support.programs import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECORDS = ROOT / "tests" / "data" / "first_ten_minutes"
REASONS = ROOT / "tools" / "first_ten_minutes" / "reasons.toml"
EXTRAS = ROOT / "tools" / "first_ten_minutes" / "extras.toml"
SCRIPT = ROOT / "tools" / "first_ten_minutes.sh"


@pytest.mark.slow
def test_the_walk_in_its_short_form():
    command = [str(SCRIPT), "--quick"]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", pages(ROOT))
def test_every_command_of_a_page_is_recorded_or_has_a_reason(page):
    reasons = Reasons.read(REASONS)
    run = [command.text for command in commands_of(ROOT, page) if reasons.why_not(command.text) is None]
    assert run == [command for command, _ in read_record(file_of(RECORDS, page))], "tools/first_ten_minutes.sh --record"


@pytest.mark.parametrize("page", Extras.read(EXTRAS).pages)
def test_every_command_of_a_page_with_extras_is_recorded_or_has_a_reason(page):
    reasons = Extras.read(EXTRAS).beside(Reasons.read(REASONS))
    run = [command.text for command in commands_of(ROOT, page) if reasons.why_not(command.text) is None]
    recorded = [command for command, _ in read_record(file_of(RECORDS, page, "extras"))]
    assert run == recorded, "tools/first_ten_minutes.sh --record --walk extras"


def test_every_extra_that_a_page_names_is_walked_or_excused():
    extras = Extras.read(EXTRAS)
    assert extras.faults(ROOT, pages(ROOT)) == []
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*extras.install, *extras.excused} <= optional.keys()
    assert {extra for named in extras.pages.values() for extra in named} <= {*extras.install}


def test_every_entry_of_the_second_walk_is_needed():
    extras, first = Extras.read(EXTRAS), Reasons.read(REASONS)
    reasons = extras.beside(first)
    for command in (command.text for page in extras.pages for command in commands_of(ROOT, page)):
        if reasons.why_not(command) is None:
            reasons.as_run(command)
            reasons.ready(command)
            reasons.dropped(command)
    assert extras.unused(reasons) == []
    assert extras.runs.keys() <= first.commands.keys()


def test_every_reason_is_needed():
    reasons = Reasons.read(REASONS)
    for command in (command.text for page in pages(ROOT) for command in commands_of(ROOT, page)):
        if reasons.why_not(command) is None:
            reasons.as_run(command)
            reasons.of_machine(command)
    assert reasons.unused() == []


def test_no_record_without_a_page():
    known = {file_of(RECORDS, page) for page in pages(ROOT)}
    known |= {file_of(RECORDS, page, "extras") for page in Extras.read(EXTRAS).pages}
    assert set(RECORDS.glob("*.txt")) <= known


def test_wrong_use_of_the_script():
    for words in (["--nonsense"], ["--page"], ["--python", "/nowhere"], ["--walk", "third"]):
        done = subprocess.run([str(SCRIPT), *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, ""), words
    asked = subprocess.run([str(SCRIPT), "--help"], capture_output=True, text=True, check=False)
    assert asked.returncode == 0
    assert asked.stdout.startswith("The first ten minutes of a newcomer")


PAGE = """Text with `rrid-edge in-line`.

```bash
rrid-edge index gallery/       # a comment
rrid-edge match q.jpg --pattern '(?P<a>#)' && \\
  echo done
(umask 077; for who in a b; do
   echo "$who"; done > tokens)   # another
```

```
rrid-edge train --resume runs/market
```

```
no commands here
```

```python
print("rrid-edge")
```

```
$ rrid-edge info m.onnx
model  m.onnx
```
"""


def test_commands_are_what_readers_copy(tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    assert [command.text for command in commands_of(tmp_path, "page.md")] == [
        "rrid-edge index gallery/",
        "rrid-edge match q.jpg --pattern '(?P<a>#)' && \\\n  echo done",
        '(umask 077; for who in a b; do\n   echo "$who"; done > tokens)',
        "rrid-edge train --resume runs/market",
        "rrid-edge info m.onnx",
    ]
    (tmp_path / "page.md").write_text("```bash\necho 'open\n```\n")
    with pytest.raises(ValueError, match="a block ends within a command"):
        commands_of(tmp_path, "page.md")


@pytest.mark.parametrize(
    ("sent", "lines", "faults"),
    [
        ("one\r\ntwo\r\n", ["one", "two"], 0),
        ("10 %\r50 %\r\x1b[Kdone\r\n", ["done"], 0),
        ("\x1b[?25lbar 1\r\n\x1b[1A\x1b[2K\rbar 2\x1b[?25h\r\n", ["bar 2"], 0),
        ("\x1b[1;32mgreen\x1b[0m\ttab\r\n", ["green   tab"], 0),
        ("abcdefghijkl\r\n", ["abcdefghijkl"], 0),  # 12 characters on 10 columns: two rows, one line
        ("abcdefghij\r\nnext\r\n", ["abcdefghij", "next"], 0),
        ("a bar of 12 \rdone\r\n", ["a bar of 1done"], 1),  # drawn again from its second row: the first one stays
    ],
)
def test_the_screen_shows_what_a_terminal_shows(sent, lines, faults):
    screen = Screen(10)
    screen.feed(sent)
    assert screen.lines() == lines
    assert len(screen.faults) == faults


BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


def test_a_command_in_a_terminal_and_in_files(tmp_path):
    limits = Limits(20)
    redirected = in_files("echo out; echo err >&2; test -t 1 && tput cols; exit 3", tmp_path, BARE, limits)
    assert (redirected.code, redirected.out, redirected.err, redirected.faults) == (3, ["out"], ["err"], [])
    shown = in_terminal("echo out; echo err >&2; stty size; exit 3", tmp_path, BARE, limits, 120)
    assert (shown.code, shown.out, shown.faults) == (3, ["out", "err", "50 120"], [])
    assert in_files("printf '\\033[1mx\\r'", tmp_path, BARE, limits).faults == [
        "an escape sequence in redirected output",
        "a carriage return in redirected output",
    ]
    short = Limits(0.2)
    for late in (
        in_files("sleep 60", tmp_path, BARE, short),
        in_terminal("sleep 60", tmp_path, BARE, short, 80),
    ):
        assert late.code == -1
        assert "ran longer" in late.faults[0]
    assert in_files("kill -TERM $$", tmp_path, BARE, limits).code == 143  # as a shell shows it


RUNS_ON = """trap 'echo stopped; exit 7' INT
echo ready >&2
while :; do sleep 0.05; done"""


def test_a_command_that_runs_until_it_is_stopped(tmp_path):
    limits = Limits(20, until="ready")
    redirected = in_files(RUNS_ON, tmp_path, BARE, limits)
    assert (redirected.code, redirected.out, redirected.err, redirected.faults) == (7, ["stopped"], ["ready"], [])
    shown = in_terminal(RUNS_ON, tmp_path, BARE, limits, 80)
    assert (shown.code, shown.out, shown.faults) == (7, ["ready", "stopped"], [])
    early = in_files("echo ready; exit 1", tmp_path, BARE, limits)
    assert (early.code, early.faults) == (1, ["ended before it was stopped, at 'ready'"])
    never = in_files("sleep 60", tmp_path, BARE, Limits(0.3, until="ready"))
    assert (never.code, never.faults) == (-1, ["ran longer than 0 s"])


EXTRAS_TOML = """install = ["adopt", "serve"]
packages = ["other"]
[environment]
[pages]
"page.md" = ["adopt"]
[without]
[excused]
ray = "a cluster"
[runs]
'rrid-edge b' = "it can"
[smaller]
'rrid-edge a' = 'rrid-edge a --port 0'
[until]
'rrid-edge a' = "ready"
[processor]
'rrid-edge a' = "bf16"
"""


def test_the_second_walk_has_reasons_of_its_own(tmp_path):
    (tmp_path / "extras.toml").write_text(EXTRAS_TOML)
    extras = Extras.read(tmp_path / "extras.toml")
    assert extras.requirements == ["[cpu,adopt,serve]", "other"]
    first = Reasons({"pip": "an index"}, {"rrid-edge b": "no", "rrid-edge c": "no"}, {"rrid-edge d": "rrid-edge e"})
    reasons = extras.beside(first)
    assert [reasons.why_not(f"rrid-edge {word}") for word in "abc"] == [None, None, "no"]
    assert reasons.why_not("pip install x") == "an index"
    assert (reasons.as_run("rrid-edge a"), reasons.as_run("rrid-edge d")) == ("rrid-edge a --port 0", "rrid-edge e")
    assert extras.unused(reasons) == []
    assert (reasons.ready("rrid-edge a"), reasons.ready("rrid-edge d")) == ("ready", None)
    assert [found.pattern for found in reasons.dropped("rrid-edge a")] == ["bf16"]
    assert extras.unused(extras.beside(first)) == ["rrid-edge a"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pip install 'rrid-edge[cpu,adopt]' 'rrid-edge[ray]'", ""),
        ("-> pip install 'rrid-edge[serve]'", ""),  # what doctor prints
        ("pip install 'rrid-edge[openvino,serve]'", "page.md: names the extra 'serve': add it to the page"),
        ("pip install 'rrid-edge[milvus]'", "page.md: no walk has the extra 'milvus': add it to 'install'"),
    ],
)
def test_an_extra_that_no_walk_has_is_found(tmp_path, text, fault):
    (tmp_path / "extras.toml").write_text(EXTRAS_TOML)
    (tmp_path / "page.md").write_text(text)
    told = Extras.read(tmp_path / "extras.toml").faults(tmp_path, ["page.md"])
    assert [line[: len(fault)] for line in told] == [fault] * bool(fault)
    gone = Extras.read(tmp_path / "extras.toml").faults(tmp_path, [])
    assert gone == ["extras.toml: no such page: page.md"]


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("gallery: 1,024 crops in 0.3 s, 86.3 images/s", "gallery: N crops in N s, N images/s"),
        ("fingerprint b5d54c39e666; written at 2026-11-27T00:12:00.5Z", "fingerprint HEX; written at TIME"),
        ("/tmp/x/desk/models/rrid.onnx: 49.1 MB", "models/rrid.onnx: N SIZE"),
        ("m.onnx: openvino CPU bf16; 24 queries", "m.onnx: RUNTIME; N queries"),
        (
            "model m.onnx (given), runtime openvino (2 others passed over): openvino CPU bf16",
            "model m.onnx (given), runtime RUNTIME: RUNTIME",
        ),
        (
            "needs it: pip install 'rrid-edge[gpu-cu12]', or 'rrid-edge[gpu-cu13]' else; go",
            "needs it: pip install PACKAGES OF A GPU; go",
        ),
        ("   1   0.973       5      0082  0082_c5s1_010831_00.jpg", "  N  ...  (5 columns)"),
        ("mAP change +0.0012, minimum 1.1e-12", "mAP change N, minimum N"),
    ],
)
def test_a_form_has_no_number_of_one_run(line, form):
    assert forms_of([line], {"/tmp/x/desk/": ""}) == [form]


def test_rows_of_one_form_are_one():
    rows = [f"   {rank}   0.9{rank}       5      0082  a.jpg" for rank in range(1, 4)]
    assert forms_of(["query q.jpg", *rows, "written: a.png"], {}) == [
        "query q.jpg",
        "  N  ...  (5 columns) (and so on)",
        "written: a.png",
    ]


def test_a_table_is_too_wide_where_a_terminal_breaks_it():
    row = "ok       auto         models/rrid.onnx: a sentence that is long"
    assert too_wide([row], 40) == [row]
    assert too_wide(["rank  score  " + "path/" * 20 + "a.jpg"], 40) == []  # a path is never cut
    assert too_wide(["a long sentence without columns " * 3], 40) == []
    assert too_wide([row], 80) == []


def test_a_record_holds_what_a_page_printed(tmp_path):
    path = tmp_path / "page.txt"
    entries = [
        ("rrid-edge index g", entry(0, ["N crops"], ["note"], {80: ["note", "N crops"], 120: ["note", "N crops"]})),
        ("(a\nb)", entry(2, [], ["wrong"], {80: ["wrong", "bar"], 120: ["wrong"]})),
        ("c", entry(0, ["x"], [], {80: ["y"], 120: ["y"]})),
    ]
    assert entries[0][1] == ["exit 0", "out  N crops", "err  note"]
    assert entries[1][1] == ["exit 2", "err  wrong", "tty80  + bar"]
    assert entries[2][1] == ["exit 0", "out  x", "tty  + y", "tty  - x"]
    write_record(path, entries)
    assert read_record(path) == entries
    assert read_record(tmp_path / "none.txt") == []
    assert differences(["exit 0", "out  a"], ["exit 0", "out  b"]) == ["- out  a", "+ out  b"]


def test_what_differs_from_the_record_is_told(tmp_path):
    walk = Walk(tmp_path, tmp_path, tmp_path, tmp_path, {"HOME": "/"}, (80,))
    write_record(tmp_path / "page.txt", [("rrid-edge a", ["exit 0", "out  old"])])
    assert compare(walk, "docs/page.md", [("rrid-edge a", ["exit 0", "out  old"])]) == []
    told = compare(walk, "docs/page.md", [("rrid-edge a", ["exit 0", "out  new"]), ("rrid-edge b", ["exit 0"])])
    assert told == [
        "docs/page.md: the page has other commands than the record:",
        "  + rrid-edge b",
        "docs/page.md: this prints something else: rrid-edge a",
        "  - out  old",
        "  + out  new",
    ]


def test_a_command_that_a_page_shows_twice_has_two_entries(tmp_path):
    walk = Walk(tmp_path, tmp_path, tmp_path, tmp_path, {"HOME": "/"}, (80,))
    entries = [("rrid-edge index g", ["exit 0", "out  N added"]), ("rrid-edge index g", ["exit 0", "out  unchanged"])]
    write_record(tmp_path / "page.txt", entries)
    assert compare(walk, "docs/page.md", entries) == []
    assert len(compare(walk, "docs/page.md", entries[::-1])) == 6


def test_a_page_with_extras_has_a_record_and_a_desk_of_its_own(tmp_path):
    (tmp_path / "desk" / "models").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("```bash\nrrid-edge a\n```\n")
    environment = {**BARE, "HOME": str(tmp_path)}
    without = {"docs/page.md": ["models"]}
    walk = Walk(tmp_path, tmp_path, tmp_path / "desk", tmp_path / "work", environment, (80,), "extras", without)
    command = "ls; printf 'on bf16\\nend\\n'"
    reasons = Reasons(smaller={"rrid-edge a": command}, processor={"rrid-edge a": "bf16"})
    entries, faults = walk.run("docs/page.md", reasons)
    assert (entries, faults) == ([("rrid-edge a", ["exit 0", "out  end"])], [])
    record(walk, "docs/page.md", entries)
    assert (tmp_path / "page.extras.txt").exists()
    assert compare(walk, "docs/page.md", entries) == []
    assert compare(walk, "docs/page.md", [])[0].startswith("docs/page.md with extras: ")


def test_a_walk_finds_faults_of_form(tmp_path):
    (tmp_path / "desk").mkdir()
    page = "docs/page.md"
    (tmp_path / "docs").mkdir()
    (tmp_path / page).write_text("```bash\necho 'Traceback (most recent)'\nexit 3\ntest -t 1\n```\n")
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    walk = Walk(tmp_path, tmp_path, tmp_path / "desk", tmp_path / "work", environment, (80,))
    entries, faults = walk.run(page, Reasons())
    assert [lines[0] for _, lines in entries] == ["exit 0", "exit 3", "exit 1"]
    assert faults == [
        "docs/page.md: echo 'Traceback (most recent)': in files: a traceback",
        "docs/page.md: echo 'Traceback (most recent)': at 80 columns: a traceback",
        "docs/page.md: exit 3: in files: exit code 3 without the command that mends it",
        "docs/page.md: exit 3: at 80 columns: exit code 3 without the command that mends it",
        "docs/page.md: test -t 1: at 80 columns: exit code 0, and 1 in files",
    ]
