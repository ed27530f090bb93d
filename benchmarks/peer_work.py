"""The work of one peer, in a process and an environment of its own: JPEG crops to descriptors on disk.

`peers.py` runs it. Only the package's own part imports rrid_edge. The last line of stdout is JSON.

Run: PYTHON peer_work.py PEER CROPS_FOLDER OUTPUT MODEL BATCH THREADS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

START = time.perf_counter()
TIMM_PX, TORCHREID_PX, BOXMOT_PX = (384, 128), (256, 128), (256, 128)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Loaded = tuple[str, float, Callable[[], Any]]
"""What is computed, operations per crop in 10^9 (0 if the parent counts them), and the work after loading."""


def batches(folder: Path, batch: int, height_px: int, width_px: int) -> Iterator[Any]:
    """Decode and resize crops on one thread, in the order of their names: uint8 (batch, height, width, 3)."""
    import numpy as np
    from PIL import Image

    files = sorted(folder.iterdir())
    for start in range(0, len(files), batch):
        pixels = []
        for file in files[start : start + batch]:
            with Image.open(file) as image:
                resized = image.convert("RGB").resize((width_px, height_px), Image.Resampling.BILINEAR)
                pixels.append(np.asarray(resized))
        yield np.stack(pixels)


def package(folder: Path, output: Path, model: Path, _batch: int, threads: int) -> Loaded:
    """The package: `index` into a gallery."""
    from rrid_edge.engines import open_engine
    from rrid_edge.gallery.indexing.sync import index_folder
    from rrid_edge.gallery.local.store import LocalGallery

    engine = open_engine(model, threads=threads)

    def work() -> None:
        with LocalGallery.create(output, engine.spec) as gallery:
            report = index_folder(folder, gallery, engine)
        assert not report.failed

    spec = engine.spec
    return f"{spec.backbone} RRID, {spec.height_px} x {spec.width_px}, {engine.runtime}", 0.0, work


def lean(folder: Path, output: Path, model: Path, batch: int, threads: int) -> Loaded:
    """The leanest script on OpenVINO: one thread decodes, two requests compute, one array is written."""
    import numpy as np
    import openvino

    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(output.parent / "openvino")})
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
    }
    compiled = core.compile_model(str(model), "CPU", settings)
    height_px, width_px = (compiled.input(0).partial_shape[axis].get_length() for axis in (1, 2))

    def work() -> None:
        found: dict[int, Any] = {}
        queue = openvino.AsyncInferQueue(compiled, 2)
        queue.set_callback(lambda request, number: found.update({number: request.get_output_tensor(0).data.copy()}))
        for number, pixels in enumerate(batches(folder, batch, height_px, width_px)):
            queue.start_async({0: pixels}, number)
        queue.wait_all()
        np.save(output, np.concatenate([found[number] for number in sorted(found)]))

    return f"the same file, {height_px} x {width_px}, OpenVINO {openvino.__version__.split('-')[0]}", 0.0, work


def timm(folder: Path, output: Path, _model: Path, batch: int, threads: int) -> Loaded:
    """timm's ResNet-50 with random weights: the same backbone, one view, no head."""
    import timm as package_timm

    network = package_timm.create_model("resnet50", pretrained=False, num_classes=0).eval()
    told, operations, work = _torch(network, folder, output, batch, threads, TIMM_PX)
    return f"timm {package_timm.__version__} resnet50, one view, {told}", operations, work


def torchreid(folder: Path, output: Path, _model: Path, batch: int, threads: int) -> Loaded:
    """torchreid's OSNet with random weights, at the size that its models are trained for."""
    import torchreid as package_torchreid

    network = package_torchreid.models.build_model("osnet_x1_0", num_classes=1, pretrained=False).eval()
    told, operations, work = _torch(network, folder, output, batch, threads, TORCHREID_PX)
    return f"torchreid {package_torchreid.__version__} osnet_x1_0, one view, {told}", operations, work


def boxmot(folder: Path, output: Path, _model: Path, batch: int, threads: int) -> Loaded:
    """boxmot's OpenVINO backend on timm's ResNet-50 with random weights, at boxmot's default size.

    boxmot resizes and normalises crops itself. Its first process converts the network to a file.
    """
    if threads:
        raise SystemExit("its OpenVINO backend takes no number of threads; leave it out")
    import cv2
    import numpy as np
    from boxmot import __version__
    from boxmot.reid.core import ReID

    file = output.parent / "boxmot" / "resnet50.xml"
    if not file.exists():
        _convert(file)
    operations = _operations(file.with_suffix(".json"))
    network = ReID(file)
    network.get_backend()  # opens it

    def work() -> None:
        files = sorted(folder.iterdir())
        parts = [files[start : start + batch] for start in range(0, len(files), batch)]
        np.save(output, np.concatenate([network([cv2.imread(str(file)) for file in part]) for part in parts]))

    size_px = f"{BOXMOT_PX[0]} x {BOXMOT_PX[1]}"
    return f"boxmot {__version__} on timm's resnet50, one view, {size_px}, OpenVINO fp32", operations, work


def _convert(file: Path) -> None:
    """Write timm's ResNet-50 with random weights as a file of OpenVINO, and count its operations."""
    import openvino
    import timm as package_timm
    import torch

    network = package_timm.create_model("resnet50", pretrained=False, num_classes=0).eval()
    converted = openvino.convert_model(network, example_input=torch.zeros(2, 3, *BOXMOT_PX), input=[-1, 3, *BOXMOT_PX])
    openvino.save_model(converted, file, compress_to_fp16=False)
    _operations(file.with_suffix(".json"), network, BOXMOT_PX)


def _operations(
    file: Path,
    network: Any = None,  # noqa: ANN401 - PyTorch of any environment
    size_px: tuple[int, int] = (0, 0),
) -> float:
    """Operations per crop in 10^9. The first process of a peer counts them, so that no other start takes longer."""
    if not file.exists():
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            network(torch.zeros(1, 3, *size_px))
        file.write_text(json.dumps(counter.get_total_flops() / 1e9))
    return float(json.loads(file.read_text()))


def _torch(
    network: Any,  # noqa: ANN401 - PyTorch of any environment
    folder: Path,
    output: Path,
    batch: int,
    threads: int,
    size_px: tuple[int, int],
) -> Loaded:
    """A network of PyTorch, float32 in eager mode, on crops that are scaled and normalised as ImageNet's."""
    import numpy as np
    import torch

    if threads:
        torch.set_num_threads(threads)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _DEVIATION))

    def work() -> None:
        found = []
        with torch.inference_mode():
            for pixels in batches(folder, batch, *size_px):
                images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
                found.append(network(images.sub_(mean).div_(deviation)).numpy())
        np.save(output, np.concatenate(found))

    told = f"{size_px[0]} x {size_px[1]}, torch {torch.__version__.split('+')[0]} fp32"
    file = output.parent / f"{type(network).__name__}.json"
    return told, _operations(file, network, size_px), work


PEERS: dict[str, Callable[[Path, Path, Path, int, int], Loaded]] = {
    "package": package, "lean": lean, "timm": timm, "torchreid": torchreid, "boxmot": boxmot,
}  # fmt: skip


def peak_mib() -> float:
    """The largest resident memory of this process; NaN without ``/proc``."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def main() -> None:
    """Do the work of one peer, and print what it took."""
    peer, folder, output, model, batch, threads = sys.argv[1:7]
    what, operations, work = PEERS[peer](Path(folder), Path(output), Path(model), int(batch), int(threads))
    loaded = time.perf_counter()
    work()
    done = time.perf_counter()
    print(
        json.dumps(
            {
                "what": what,
                "operations": operations,
                "load_s": loaded - START,
                "work_s": done - loaded,
                "peak_mib": peak_mib(),
            }
        )
    )


if __name__ == "__main__":
    main()
