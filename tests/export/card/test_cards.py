"""Model cards against a hand-written one, and texts of other people in them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import yaml

import rrid_edge as package
from rrid_edge.errors import ModelFileError, OutputError
from rrid_edge.model.names import parity_report_path
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.weights import contract_file
from rrid_edge.ranking.labels import Labels
from rrid_edge.ranking.sampling import PeopleSample
from rrid_edge.ranking.thresholds import Threshold
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.pipeline import AdoptSettings, adopt_network
from rrid_export.card.licences import licence_lines
from rrid_export.card.markdown import code, quoted
from rrid_export.card.writing import write_card
from support.commands import refused, rrid_edge
from support.foreign import ForeignFile
from support.onnx_models import save_tiny_model
from support.pictures import save_crops
from support.thresholds import keep, open_set, record

WANTED = Path(__file__).parents[2] / "data" / "card_adopted.md"
CHOICES = Choices(color="bgr", scale=1.0, mean=(123.675, 116.28, 103.53), std=(57.5, 57.25, 57.0), flip=True)
ORIGIN = f"hf://people/osnet.x1@{'ab' * 20}/net.onnx"
SETTINGS = AdoptSettings(CHOICES, name="small", origin=ORIGIN, training_data="MSMT17 (train)")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of an adopted file and its parity report."""
    folder = tmp_path_factory.mktemp("card")
    source = ForeignFile().write(folder / "net.onnx")
    model = adopt_network(read_foreign(source), folder / "models", SETTINGS).model
    return model.read_bytes(), parity_report_path(model).read_bytes()


@pytest.fixture
def model(written, tmp_path):
    path = tmp_path / "models" / "small.onnx"
    path.parent.mkdir()
    path.write_bytes(written[0])
    parity_report_path(path).write_bytes(written[1])
    return path


def _with_figures(model) -> None:
    report = json.loads(parity_report_path(model).read_text())
    report["agreement"] |= {"images": 200, "min_cosine": 0.999999, "mean_cosine": 0.9999995}
    report |= {"engine": "ort", "reference": "original", "map_engine": 0.8125, "map_reference": 0.8126}
    report |= {"rank1_engine": 0.9, "rank1_reference": 0.91}
    report["sample"] |= {"description": "200 crops of 20 people", "queries": 100}
    parity_report_path(model).write_text(json.dumps(report))


def _copy(model, name, precision, fingerprint) -> None:
    """Another file of the network, by what it says of itself."""
    graph = onnx.load_model(str(model))
    for entry in graph.metadata_props:
        entry.value = {"rrid.precision": precision, "rrid.fingerprint": fingerprint}.get(entry.key, entry.value)
    spec = read_spec(model)
    changed = type(spec)(**{**spec.__dict__, "precision": precision, "fingerprint": fingerprint})
    (model.parent / name).write_bytes(contract_file(graph.SerializeToString(), changed))


def test_a_card_has_all_facts(model):
    spec = read_spec(model)
    _with_figures(model)
    _copy(model, "small.fp16.onnx", "fp16", spec.fingerprint)
    _copy(model, "small.int8.onnx", "int8", "0" * 64)  # of another network
    (model.parent / "small.fp32.engine").write_bytes(b"")
    keep(model, spec.fingerprint, record("market1501", (Threshold(0.001, 0.6, 0.75), Threshold(0.01, None, None)),
                                         open_set()))  # fmt: skip
    path = write_card(model, licence="Apache-2.0", drawn=False)
    wanted = WANTED.read_text().replace("SHA256", spec.source_sha256).replace("FINGERPRINT", spec.fingerprint)
    text, _, last = path.read_text().rpartition("\n<!--")
    assert text == wanted.replace("VERSION", package.__version__)
    assert re.fullmatch(r" rrid-edge card [0-9a-f]{16} -->\n", last)


def test_what_is_not_known_is_said(model):
    text = write_card(model, licence=None, drawn=True).read_text()
    for words in ("license: unknown", "Licence of the weights: unknown", "No accuracy was measured",
                  "They prove only the arithmetic"):  # fmt: skip
        assert words in text
    assert "goldens" not in text
    parity_report_path(model).unlink()
    assert "(fp32): not measured" in write_card(model, licence=None, drawn=True).read_text()


def test_a_card_of_rrid(tmp_path):
    model = save_tiny_model(tmp_path / "rrid.onnx")
    text = write_card(model, licence=None, drawn=True).read_text()
    spec = read_spec(model)
    assert f"Ham, AAAI 2020) with the backbone `{spec.backbone}` and stripes" in text
    assert f"- {len(spec.blocks)} blocks of {spec.block_width} values: {', '.join(spec.blocks)}." in text.splitlines()
    for line in ("- Order of the channels: RGB", "- Values: (pixel / 255 - mean) / std, in float32",
                 "- Mean: 0.485, 0.456, 0.406", "- Standard deviation: 0.229, 0.224, 0.225"):  # fmt: skip
        assert line in text.splitlines()


HOSTILE = "`` <script>x</script> [a](javascript:1) ![b](c) | *d* _e_ # f\n---\n<!-- rrid-edge card 0 -->"


def test_texts_of_others_are_shown_and_not_obeyed(tmp_path):
    source = ForeignFile().write(tmp_path / "net.onnx")
    settings = AdoptSettings(CHOICES, name="a b`c", origin=f"hf://people/x@1/{HOSTILE}", training_data=HOSTILE)
    model = adopt_network(read_foreign(source), tmp_path / "models", settings).model
    text = write_card(model, licence=HOSTILE, drawn=True).read_text()
    head, body = text.split("\n---\n", 1)
    assert yaml.safe_load(head.removeprefix("---\n"))["license_name"] == HOSTILE.replace("\n", "\\n")
    assert yaml.safe_load(head.removeprefix("---\n"))["base_model"] == "people/x"
    outside = re.sub(r"```\n.*?\n```|(`+)(?!`).*?(?<!`)\1(?!`)", "", body, flags=re.DOTALL)
    assert not re.search(r"<script|javascript|\*d\*", outside)
    assert len(re.findall("<!--", outside)) == 1
    assert f"- Training data: ``` {HOSTILE} ```".replace("\n", "\\n") in body
    assert "rrid-edge info 'a b`c.onnx'" in body


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a``", "``` a`` ```"), ("", "`-`"), ("a\nb", "`a\\nb`"),
     (" a", "`  a `"), ("é", "`é`"), ("x" * 500, f"`{'x' * 399}…`")],
    ids=["plain", "backtick", "first", "last two", "empty", "newline", "space", "letter", "long"],
)  # fmt: skip
def test_code_spans(text, wanted):
    assert code(text) == wanted


def test_yaml_scalars():
    assert [yaml.safe_load(quoted(text)) for text in ('a"b\\', "é😀", "yes", "a\nb")] == [
        'a"b\\',
        "é😀",
        "yes",
        "a\\nb",
    ]


@pytest.mark.parametrize(
    ("licence", "lines"),
    [
        (None, ["license: unknown"]),
        ("MIT", ["license: mit"]),
        ("agpl-3.0", ["license: agpl-3.0"]),
        ("CC BY-NC 4.0", ["license: cc-by-nc-4.0"]),
        ("NVIDIA's own: see page", ["license: other", 'license_name: "NVIDIA\'s own: see page"']),
    ],
)
def test_licences(licence, lines):
    assert licence_lines(licence) == lines


def test_only_an_unchanged_card_is_replaced(model):
    path = write_card(model, licence=None, drawn=True)
    assert write_card(model, licence="mit", drawn=True) == path
    assert "license: mit" in path.read_text()
    path.write_text(path.read_text().replace("mit", "gpl"))
    for content in (
        path.read_bytes(),
        b"# My own text\n",
        b"",
        b"\xff\xfe",
        b"\n<!-- rrid-edge card 0000000000000000 -->\n",
    ):
        path.write_bytes(content)
        with pytest.raises(OutputError, match="is no unchanged card of rrid-edge"):
            write_card(model, licence=None, drawn=True)
        assert path.read_bytes() == content


def test_a_damaged_parity_report_is_named(model):
    parity_report_path(model).write_text('{"verdict": 1}')
    with pytest.raises(ModelFileError, match=r"small\.onnx\.parity\.json: damaged parity report"):
        write_card(model, licence=None, drawn=True)


def test_the_command_writes_a_card(tmp_path):
    source = ForeignFile().write(tmp_path / "net.onnx")
    save_crops(tmp_path / "crops", 6)
    options = ("adopt", source, "-o", tmp_path / "out", "--preset", "torchreid", "--crops", tmp_path / "crops")
    outcome = rrid_edge(*options, "--card", "--licence", "mit", "--training-data", "MSMT17", "--json")
    assert outcome.code == 0, outcome.err
    card = Path(json.loads(outcome.out)["card"])
    assert card == tmp_path / "out" / "README.md"
    text = card.read_text()
    assert "license: mit" in text
    assert "- Training data: `MSMT17`" in text
    assert "`net.goldens.npz` beside the model holds crops of people" in text
    assert read_spec(tmp_path / "out" / "net.onnx").training_data == "MSMT17"


def test_options_and_folders_that_do_not_fit(tmp_path):
    source = ForeignFile().write(tmp_path / "net.onnx")
    options = ("adopt", source, "-o", tmp_path / "out", "--preset", "torchreid")
    refused(rrid_edge(*options, "--licence", "mit"), 2, "give it with --card")
    refused(rrid_edge(*options, "--card", "--licence", " "), 2, "the licence is empty")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    refused(rrid_edge(*options, "--card"), 2, "this file is there already")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["README.md"]


def test_export_writes_a_card(tmp_path, monkeypatch):
    # The real modules import PyTorch.
    parity = SimpleNamespace(agreement=SimpleNamespace(images=16, min_cosine=1.0), undecided=(), to_dict=dict)

    def export(_source, output, _settings):
        model = save_tiny_model(output / "rrid.onnx")
        goldens = output / "rrid.goldens.npz"
        goldens.write_bytes(b"")
        sample = PeopleSample.of(Labels.of([-1], [-1]))
        return (SimpleNamespace(model=model, goldens=goldens, report="r", parity=parity, sample=sample, left_out=()),)

    network = SimpleNamespace(describe=lambda: "a network", spec=lambda flip: SimpleNamespace(fingerprint="0" * 64))

    def settings(flip, crops, fp16, _count, form):
        return SimpleNamespace(flip=flip, crops=crops, fp16=fp16, form=form)

    pipeline = SimpleNamespace(export_network=export, ExportSettings=settings)
    monkeypatch.setitem(sys.modules, "rrid_export.pipeline", pipeline)
    monkeypatch.setitem(sys.modules, "rrid_export.onnx", SimpleNamespace(describe=str))
    monkeypatch.setattr("rrid_edge.cli.export.load_network", lambda _given: network)
    (tmp_path / "best.pth").write_bytes(b"")
    (tmp_path / "out").mkdir()
    outcome = rrid_edge("export", tmp_path / "best.pth", "-o", tmp_path / "out", "--card", "--licence", "mit")
    assert outcome.code == 0, outcome
    assert f"card {tmp_path / 'out' / 'README.md'}\n" in outcome.out
    assert "# Person re-identification: `RRID`" in (tmp_path / "out" / "README.md").read_text()
    refused(rrid_edge("export", tmp_path / "out" / "rrid.onnx", "--card"), 2, "--card: the network is in the ONNX file")
    refused(rrid_edge("export", tmp_path / "best.pth", "--licence", "mit"), 2, "give it with --card")
