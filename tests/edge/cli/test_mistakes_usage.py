"""Mistakes in the command line itself: each ends with one line: what is wrong, what was expected, what to do."""

from __future__ import annotations

import pytest

from rrid_edge.cli.app import COMMANDS, register
from rrid_edge.cli.wrong_use import _OTHER_COMMANDS, _OTHER_WORDS
from support.commands import rrid_edge

MATCH = "for example: rrid-edge match demo/query demo/gallery --top-k 8 --sheet demo/sheet.png"
INDEX = "for example: rrid-edge index demo/gallery --model demo/models/rrid.onnx"
LINES = {
    "macth q.jpg g": "there is no command 'macth'; did you mean match? See: rrid-edge --help",
    "search q.jpg g": "there is no command 'search'; did you mean match? See: rrid-edge --help",
    "version": "there is no command 'version'; did you mean --version? See: rrid-edge --help",
    "frobnicate": "there is no command 'frobnicate'; see: rrid-edge --help",
    "-h": "there is no option -h; did you mean --help? See: rrid-edge --help",
    "--json match q.jpg g": "option --json is given before the command; expected it after match; see: rrid-edge --help",
    "gallery lst g": "gallery: there is no command 'lst'; did you mean list? See: rrid-edge gallery --help",
    "match q.jpg g --topk 3": "match: there is no option --topk; did you mean --top-k? See: rrid-edge match --help",
    "match q.jpg g -k 3": "match: there is no option -k; did you mean --top-k? See: rrid-edge match --help",
    "match q.jpg g --min-score 85": (
        "match: there is no option --min-score; did you mean --threshold? See: rrid-edge match --help"
    ),
    "index g --device cuda": "index: there is no option --device; did you mean --runtime? See: rrid-edge index --help",
    "index g --engine trt": "index: there is no option --engine; did you mean --runtime? See: rrid-edge index --help",
    "index g --batch-size 8": (
        "index: there is no option --batch-size; did you mean --batch? See: rrid-edge index --help"
    ),
    "train --device cuda": "train: there is no option --device; did you mean --gpus? See: rrid-edge train --help",
    "index g --frobnicate": "index: there is no option --frobnicate; see: rrid-edge index --help",
    "match q.jpg g --top-k three": (
        "match: option --top-k is 'three'; expected a whole number; see: rrid-edge match --help"
    ),
    "match q.jpg g --threshold=0,5": (
        "match: option --threshold is '0,5'; expected a number, with a point for decimals; see: rrid-edge match --help"
    ),
    "match q.jpg g --sheet": (
        "match: option --sheet is given without a value; expected one after it; see: rrid-edge match --help"
    ),
    "match": f"match: QUERY... GALLERY is missing; {MATCH}",
    "index": f"index: FOLDER is missing; {INDEX}",
    "index gallery other": f"index: 'other' is too much; expected FOLDER; {INDEX}",
    "gallery list": "gallery list: FOLDER is missing; for example: rrid-edge gallery list demo/gallery --camera 2",
    "evaluate m.onnx": (
        "evaluate: option --dataset is missing; expected MODEL --dataset; "
        "for example: rrid-edge evaluate runs/demo/best.safetensors --dataset demo --sheets runs/demo/sheets"
    ),
}


@pytest.mark.parametrize(("words", "line"), LINES.items(), ids=LINES)
def test_a_command_line_that_cannot_be_read(words, line):
    outcome = rrid_edge(*words.split())
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"rrid-edge: {line}\n")


def test_a_choice_names_what_there_is_to_choose():
    outcome = rrid_edge("export", "m.onnx", "--for", "jetson")
    assert (
        outcome.err == "rrid-edge: export: option --for: 'jetson' is not one of 'rtx'; see: rrid-edge export --help\n"
    )


def test_words_after_help_are_no_mistake():
    outcome = rrid_edge("match", "--help", "me")
    assert outcome.code == 0
    assert outcome.out.startswith("Usage: rrid-edge match ")


def test_odd_characters_are_escaped():
    outcome = rrid_edge("match\x1b")
    assert outcome.err == "rrid-edge: there is no command 'match\\x1b'; did you mean match? See: rrid-edge --help\n"


def test_every_proposal_exists():
    register()
    for proposed in _OTHER_COMMANDS.values():
        outcome = rrid_edge(*proposed.split(), *([] if proposed.startswith("--") else ["--help"]))
        assert outcome.code == 0, proposed
    texts = [rrid_edge(name, "--help").out for name in COMMANDS]
    for others in _OTHER_WORDS.values():
        for option in others:
            assert any(f"{option} " in text or f"{option}\n" in text for text in texts), option
