"""Compare the exported model with the published evaluation, which runs image and mirrored image in two passes.

Run: python benchmarks/fused_model.py [CHECKPOINT] [--batch 8] [--threads 2] [--repetitions 5] [--compile]
Without a checkpoint it uses a ResNet-50 RRID at 384 x 128 with random weights. Speed does not depend on the weights.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from common import watched
from rrid_calib.graph import Form
from rrid_calib.layers import int8_layers, read_graph
from rrid_calib.ranges import collect, ranges_of
from rrid_edge.engines import Engine, open_engine
from rrid_edge.machine.processor import processor_name
from rrid_edge.machine.timing import interleave
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.weights import contract_file
from rrid_edge.parity.agreement import row_cosines
from rrid_export.branch import InferenceBranch
from rrid_export.onnx import export_onnx
from rrid_export.source import SourceNetwork, load_source
from rrid_export.yardsticks import CompiledTorchEngine, PublishedEngine
from rrid_train.model import RRID
from rrid_train.settings import ModelConfig

PUBLISHED = "published, PyTorch eager"


def write_int8(source: Path, plain: Path, accurate: Path) -> None:
    """Write the fastest and the most accurate int8 form for CPUs. Ranges come from noise, so only the speed counts."""
    spec, model = read_spec(source), read_graph(source)
    pixels = np.random.default_rng(1).integers(0, 256, (2, spec.height_px, spec.width_px, 3), dtype=np.uint8)
    layers = int8_layers(model)
    histograms = collect(model, [tensor for layer in layers for tensor in layer.tensors], pixels, batch=2)
    heads = tuple(layer.name for layer in layers if layer.head)
    fastest = Form("int8", ranges_of(histograms, "minmax"))
    best = replace(fastest, name="float residuals", two_step_layers=heads, float_residuals=True)
    for path, form in ((plain, fastest), (accurate, best)):
        content = form.build(model).SerializeToString()
        path.write_bytes(contract_file(content, spec.with_precision("int8")))


def exported_engines(source: SourceNetwork, folder: Path, threads: int) -> dict[str, Engine]:
    """Open every runtime and precision of this machine, by name."""
    path = folder / "rrid.onnx"
    export_onnx(InferenceBranch(source.model).eval(), source.spec(), path)
    plain, accurate = folder / "plain.int8.onnx", folder / "accurate.int8.onnx"
    write_int8(path, plain, accurate)
    engines = {
        "ONNX Runtime fp32": open_engine(path, "onnxruntime", threads=threads),
        "OpenVINO fp32": open_engine(path, "openvino", precision="fp32", threads=threads),
        "OpenVINO default": open_engine(path, "openvino", threads=threads),
        "ONNX Runtime int8": open_engine(plain, "onnxruntime", threads=threads),
        "OpenVINO int8": open_engine(plain, "openvino", threads=threads),
        "OpenVINO int8, most accurate": open_engine(accurate, "openvino", threads=threads),
    }
    if engines["OpenVINO default"].arithmetic == "bf16":  # the CPU supports it
        for form, model in (("int8", plain), ("int8, most accurate", accurate)):
            engine = open_engine(model, "openvino", precision="bf16", threads=threads)
            engines[f"OpenVINO {form}, and bf16"] = engine
    return engines


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile: one minute more")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.checkpoint:
        source = load_source(arguments.checkpoint)
    else:
        source = SourceNetwork(RRID(ModelConfig(), 751).eval(), Path("random"), "", "none")
    spec = source.spec()
    with tempfile.TemporaryDirectory() as folder:
        published = PublishedEngine(source)
        engines: dict[str, Engine] = {
            PUBLISHED: published,
            **({"torch.compile bf16": CompiledTorchEngine(source)} if arguments.compile else {}),
            **exported_engines(source, Path(folder), arguments.threads),
        }
        shape = (arguments.batch, spec.height_px, spec.width_px, 3)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        timings = interleave(
            {name: partial(engine.run, images) for name, engine in engines.items()},
            repetitions=arguments.repetitions,
        )
        expected = published.run(images)
        base = timings[PUBLISHED].median
        what = f"batch {arguments.batch}, {spec.backbone} {shape[1]} x {shape[2]}"
        print(f"{processor_name()}, {arguments.threads} threads, {what}")
        print(f"{'':<40}{'ms/batch':>12}{'spread':>9}{'images/s':>10}{'ratio':>8}{'min cosine':>12}  runtime")
        for name, engine in engines.items():
            timing = timings[name]
            cosine = row_cosines(expected, engine.run(images)).min()
            print(
                f"{name:<40}{timing.median * 1000:>12.1f}{timing.spread:>9.1%}{arguments.batch / timing.median:>10.1f}"
                f"{base / timing.median:>8.2f}{cosine:>12.6f}  {engine.runtime}"
            )


if __name__ == "__main__":
    watched(main)
