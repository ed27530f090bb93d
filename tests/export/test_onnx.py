"""Export, compared with values of the published network: the fused branch, the ONNX file, the command."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F

from rrid_edge.engines import open_engine
from rrid_edge.errors import CheckFailedError, ModelFileError
from rrid_edge.model.names import thresholds_path
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.parity.agreement import row_cosines
from rrid_export.branch import InferenceBranch
from rrid_export.onnx import check_onnx, export_onnx, run_branch
from rrid_export.onnx_weights import take_weights
from rrid_export.pipeline import ExportSettings, export_network
from rrid_export.source import SourceNetwork, load_source
from rrid_export.torch_engine import TorchEngine
from rrid_train.model import RRID
from rrid_train.settings import ModelConfig
from support import reference
from support.commands import refused, rrid_edge
from support.networks import TINY, narrow_source, tiny_network
from support.onnx_models import save_changed_model
from support.pictures import save_crops
from support.sharing import made_once


@pytest.fixture
def tiny() -> SourceNetwork:
    return narrow_source()


@pytest.fixture
def tiny_file(narrow_export):
    """The ONNX file of that network. Tests that damage it copy it."""
    return narrow_export / "rrid.onnx"


def _random_images(count: int, config: ModelConfig, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, config.height_px, config.width_px, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=[20, 77])
def exported(request, tmp_path_factory):
    """Seed and ONNX file of the published network with seeded weights, exported by the command.

    The network of seed 20 has the published size. That of seed 77 has another size and the names of DataParallel.
    """
    name = f"published-{request.param}"
    folder = made_once(tmp_path_factory, name, functools.partial(_export_published, request.param))
    return request.param, folder / "models" / "rrid.onnx"


def _export_published(seed: int, folder: Path) -> None:
    state, size = reference.state_dict(seed), tuple[object, ...]()
    if seed == 77:
        state = {f"module.{name}": tensor for name, tensor in state.items()}
        size = ("--height", 192, "--width", 64)
    save_crops(folder / "crops", 3)  # fewer than the drawn patterns that export takes by default
    torch.save(state, folder / "weights.pth")
    options = ("--output", folder / "models", "--crops", folder / "crops")
    outcome = rrid_edge("export", folder / "weights.pth", *size, *options)
    assert outcome.code == 0, outcome
    assert "minimum cosine 1.000000" in outcome.out


@pytest.mark.slow
def test_published_weights_give_the_published_descriptors(exported):
    seed, path = exported
    images = reference.images(seed)
    if seed == 20:
        expected = reference.expected()["descriptor"]
    else:  # no stored values: run the trained network, image and mirrored image in two passes
        images = images[:, ::2, ::2]
        model = RRID.from_state_dict(reference.state_dict(seed), height_px=192, width_px=64).eval()
        with torch.inference_mode():
            one = model(reference.normalised(images)).blocks.flatten(1)
            two = model(reference.normalised(images[:, :, ::-1])).blocks.flatten(1)
            expected = F.normalize((one + two) / 2).numpy()
    with open_engine(path, "onnxruntime") as engine:
        assert engine.spec.dimension == 3840
        for batch in (1, 2, 3):
            np.testing.assert_allclose(engine.run(images[:batch]), expected[:batch], atol=1e-5)


@pytest.mark.slow
def test_exported_file_is_compact_and_holds_no_path_of_this_machine(exported):
    _, path = exported
    model = onnx.load(path)
    assert len(model.graph.node) < 200  # tracing the trained network itself gives 417
    assert model.opset_import[0].version == 17
    report = json.loads(path.with_name("parity.json").read_text())
    assert report["passed"]
    assert report["agreement"]["min_cosine"] > 0.99999
    assert str(path.parent.parent) not in path.read_bytes().decode("latin-1")  # no path of this machine


@pytest.mark.parametrize("flip", [True, False])
def test_branch_gives_the_descriptors_of_the_trained_network(tiny, flip):
    images = _random_images(4, TINY)
    with TorchEngine(tiny, flip=flip) as engine:
        np.testing.assert_allclose(
            run_branch(InferenceBranch(tiny.model, flip=flip), images), engine.run(images), atol=2e-6
        )


def test_branch_does_not_change_the_trained_network(tiny):
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    InferenceBranch(tiny.model)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny.model.state_dict().items())


@pytest.mark.parametrize("flip", [True, False])
def test_exported_file_takes_batches_that_were_not_traced(tiny_export, tiny_export_without_mirror, flip):
    folder = tiny_export if flip else tiny_export_without_mirror
    source, path = load_source(folder / "tiny.pth", height_px=96, width_px=32), folder / "rrid.onnx"
    branch = InferenceBranch(source.model, flip=flip).eval()
    assert read_spec(path) == source.spec(flip=flip)
    with open_engine(path, "onnxruntime") as engine:
        for batch in (1, 2, 7):
            images = _random_images(batch, TINY, seed=batch)
            np.testing.assert_allclose(engine.run(images), run_branch(branch, images), atol=1e-5)


def test_fingerprint_depends_on_inference_weights_and_flip_only(tiny):
    base = tiny.spec().fingerprint
    assert base != tiny.spec(flip=False).fingerprint
    with torch.no_grad():
        tiny.model.get_submodule("fc_local_3_list.0").weight.add_(1)
    assert tiny.spec().fingerprint == base  # classifiers are ignored
    with torch.no_grad():
        tiny.model.base.conv1.weight.add_(1e-3)
    assert tiny.spec().fingerprint != base


def _rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "out"
    model.graph.node[-1].output[0] = "out"


def _freeze_batch(model: onnx.ModelProto) -> None:
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 2


def _change_a_weight(model: onnx.ModelProto) -> None:
    weight = next(item for item in model.graph.initializer if item.name.endswith("part_weight"))
    values = onnx.numpy_helper.to_array(weight) * 1.5 + 0.1
    weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_rename_output, r"contract: names are .*'out'.*, expected .*'descriptors'"),
        (_freeze_batch, r"contract: dynamic batch axes are \[False, False\], expected \[True, True\]"),
        (_change_a_weight, "differs from PyTorch at batch 1: .*, expected a difference of at most 1e-05"),
    ],
)
def test_a_file_that_breaks_the_contract_is_refused(tiny, tiny_file, tmp_path, damage, words):
    branch = InferenceBranch(tiny.model).eval()
    model = onnx.load(tiny_file)
    check_onnx(tiny_file, tiny.spec(), branch)
    damage(model)
    save_changed_model(tmp_path / "m.onnx", model, tiny.spec())
    with pytest.raises(CheckFailedError, match=words):
        check_onnx(tmp_path / "m.onnx", tiny.spec(), branch)


def test_the_converter_gets_no_large_weights(tiny_file):
    """It would copy them several times. Shapes and other small tensors stay, because it reads them."""
    model, whole = onnx.load(tiny_file), onnx.load(tiny_file)
    weights = take_weights(model)
    assert model.ByteSize() < 0.01 * whole.ByteSize()
    for left, tensor in zip(model.graph.initializer, whole.graph.initializer, strict=True):
        assert (left.name, left.data_type, left.dims) == (tensor.name, tensor.data_type, tensor.dims)
        assert tensor.raw_data == weights.get(tensor.name, left.raw_data)
        assert (tensor.name in weights) == (len(tensor.raw_data) > 1024)


def test_a_failed_check_leaves_no_file(tiny, tiny_file, tmp_path, monkeypatch):
    def refuse(_path):
        raise CheckFailedError("no")

    monkeypatch.setattr("rrid_export.onnx.trace_branch", _traced_before(tiny_file.parent))

    with pytest.raises(CheckFailedError):
        export_onnx(InferenceBranch(tiny.model).eval(), tiny.spec(), tmp_path / "out" / "m.onnx", accept=refuse)
    assert not (tmp_path / "out").exists()


def test_export_command_takes_crops_and_input_size(tiny_export):
    result = json.loads((tiny_export / "export.json").read_text())
    assert result["parity"]["passed"]
    assert result["parity"]["agreement"]["images"] == 8
    assert result["sample"] == json.loads((tiny_export / "parity.json").read_text())["sample"]
    assert (result["sample"]["crops"], result["sample"]["people"], result["sample"]["queries"]) == (8, 4, 8)
    again = load_source(tiny_export / "tiny.pth", height_px=96, width_px=32)
    assert read_spec(tiny_export / "rrid.onnx").fingerprint == again.spec().fingerprint


def _traced_before(folder):
    """Return a function that takes a branch of the network in ``folder``, and returns its traced graph."""

    def graph(branch: InferenceBranch) -> onnx.ModelProto:
        return onnx.load(folder / ("rrid.onnx" if branch.compute_dtype == torch.float32 else "rrid.fp16.onnx"))

    return graph


def test_fp16_file_is_half_the_size_and_gives_similar_descriptors(narrow_export, tmp_path, monkeypatch):
    """Float16 weights, float32 at both ends. Without TensorRT the command exits with 3 and names what is missing."""
    asked: list[int] = []
    run_batch = TorchEngine._run_batch

    def counted(self, images):
        asked.append(len(images))
        return run_batch(self, images)

    monkeypatch.setattr(TorchEngine, "_run_batch", counted)
    (tmp_path / "narrow.pth").touch()
    monkeypatch.setattr("rrid_export.source.load_source", lambda _path, **_size: narrow_source())
    monkeypatch.setattr("rrid_export.onnx.trace_branch", _traced_before(narrow_export))
    output = ("-o", tmp_path / "m", "--triton", tmp_path / "t")
    outcome = rrid_edge("export", tmp_path / "narrow.pth", "--fp16", *output)
    refused(
        outcome,
        3,
        "rrid.fp16.onnx: written, but no TensorRT engine was built",
        "on the device run: rrid-edge export",
        f"; on this machine take {tmp_path / 'm' / 'rrid.onnx'}",
    )
    assert (
        f"{tmp_path / 'm' / 'rrid.fp16.onnx'} is for GPUs; on this machine take {tmp_path / 'm' / 'rrid.onnx'}: "
        in (outcome.err)
    )
    assert f"; next: rrid-edge match query.jpg gallery/ --model {tmp_path / 'm' / 'rrid.onnx'}\n" in outcome.out
    with np.load(tmp_path / "m" / "rrid.goldens.npz") as goldens:
        assert sum(asked) == len(goldens["images"])  # both precisions are compared with the same answers of PyTorch
    full, half = tmp_path / "m" / "rrid.onnx", tmp_path / "m" / "rrid.fp16.onnx"
    assert half.stat().st_size <= 0.52 * full.stat().st_size
    spec = read_spec(half)
    assert (spec.precision, spec.fingerprint) == ("fp16", read_spec(full).fingerprint)
    images = _random_images(5, TINY)
    with open_engine(full, "onnxruntime") as one, open_engine(half, "onnxruntime") as two:
        assert row_cosines(one.run(images), two.run(images)).min() > 0.999
    types = {node.op_type: node for node in onnx.load(half).graph.node}
    assert next(iter(onnx.load(half).graph.node)).op_type == "Cast"  # the first node casts the uint8 pixels
    assert "Conv" in types
    report = json.loads((tmp_path / "m" / "rrid.fp16.onnx.parity.json").read_text())
    assert (report["verdict"], report["failures"]) == ("not decided", [])  # 16 patterns are too few crops
    assert {path.name for path in (tmp_path / "m").glob("*.png")} == {"parity.png", "rrid.fp16.onnx.parity.png"}
    assert (tmp_path / "t").is_dir()
    refused(rrid_edge("export", half), 3, "TensorRT")


def test_weights_beyond_float16_are_refused(tiny):
    branch = InferenceBranch(tiny.model).eval()
    branch.part_bias[0, 0, 0] = 1e6
    with pytest.raises(CheckFailedError, match="'part_bias' reach 1e\\+06 and exceed float16"):
        branch.to_half()


def test_export_command_refuses_bad_checkpoints_sizes_and_folders(tmp_path):
    model = tiny_network()
    torch.save(model.state_dict(), tmp_path / "tiny.pth")
    short = {name: tensor for name, tensor in model.state_dict().items() if name != "rest_3_conv_list.0.0.bias"}
    torch.save(short, tmp_path / "short.pth")
    torch.save({**model.state_dict(), "surplus": torch.zeros(1)}, tmp_path / "long.pth")
    (tmp_path / "words.pth").write_text("these are words")
    size = ("--height", 96, "--width", 32)
    refused(rrid_edge("export", tmp_path / "none.pth"), 2, "none.pth", "no such checkpoint")
    refused(rrid_edge("export", tmp_path / "words.pth"), 4, "words.pth", "this is a text file, not a checkpoint")
    refused(rrid_edge("export", tmp_path / "short.pth", *size), 4, "1 missing (first: 'rest_3_conv_list.0.0.bias')")
    refused(rrid_edge("export", tmp_path / "long.pth", *size), 4, "1 unknown (first: 'surplus')")
    refused(rrid_edge("export", tmp_path / "tiny.pth", "--height", 100), 2, "height 100 px does not fit")
    (tmp_path / "file").write_text("")
    output = ("-o", tmp_path / "file" / "models")
    refused(rrid_edge("export", tmp_path / "tiny.pth", *size, *output), 2, "cannot be written")
    refused(rrid_edge("export", tmp_path / "tiny.pth", *size, "--crops", tmp_path / "file"), 2, "this is a file")


def test_damaged_thresholds_of_the_checkpoint_are_refused_before_the_work(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("rrid_export.pipeline.make_goldens", lambda *_args, **_settings: pytest.fail("too late"))
    source = dataclasses.replace(tiny, path=tmp_path / "best.safetensors")
    thresholds_path(source.path).write_text("{")
    with pytest.raises(ModelFileError, match=r"best\.thresholds\.json: .*measure them again"):
        export_network(source, tmp_path / "models", ExportSettings())
    assert not (tmp_path / "models").exists()
