"""Compare training images per second with a plain float32 loop of the same network, loss and images.

*Plain* is float32, with images decoded in the training process and the default memory layout. *Ours* is what
`rrid-edge train` runs with the given options. Both take turns in blocks of steps. The first step of each block is not
counted. Needs a dataset folder.

Run: python benchmarks/training_speed.py --data demo --preset demo
     python benchmarks/training_speed.py --data DATASET --preset paper --gpus 1 --amp bf16 --num-workers 16
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from common import resident_mib, watched
from rrid_edge.machine.processor import core_count, processor_name
from rrid_train.distributed import Processes
from rrid_train.loop import Trainer
from rrid_train.settings import PRESETS, TrainConfig


@dataclass
class Measured:
    """Times of counted steps.

    Attributes:
        data_s: seconds that each step waited for its batch.
        step_s: seconds of each step: copy, forward, loss, backward, optimiser.
        images: number of images in all steps.
        memory_mib: peak memory on a GPU, or the process's resident memory on a CPU.
    """

    data_s: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    images: int = 0
    memory_mib: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Images per second over all counted steps, with the wait for data."""
        return self.images / (sum(self.data_s) + sum(self.step_s))

    @property
    def data_share(self) -> float:
        """Share of the time spent waiting for data."""
        return sum(self.data_s) / (sum(self.data_s) + sum(self.step_s))


class Way:
    """One way to train.

    Args:
        config: its settings.
        device: device to train on.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.trainer, self.device, self.measured = Trainer(config, Processes(0, 1, device)), device, Measured()
        self.trainer.network.train()
        self._batches = self._endless()

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.trainer.loader

    def run(self, steps: int) -> None:
        """Run one step that is not counted, then ``steps`` counted ones."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        for number in range(steps + 1):
            start = time.perf_counter()
            batch = next(self._batches)
            ready = time.perf_counter()
            self.trainer._optimise([batch])
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            ended = time.perf_counter()
            if number:
                self.measured.data_s.append(ready - start)
                self.measured.step_s.append(ended - ready)
                self.measured.images += len(batch[1])
        if self.device.type == "cuda":
            self.measured.memory_mib = torch.cuda.max_memory_allocated(self.device) / 2**20
        else:
            self.measured.memory_mib = resident_mib()


def configs(options: argparse.Namespace, folder: str) -> dict[str, TrainConfig]:
    """Return the settings of both ways."""
    base = replace(
        PRESETS[options.preset],
        dataset_path=options.data,
        exp_dir=folder,
        backbone_weights="none",
        threads=options.threads,
        gpus=options.gpus,
    )
    if options.batch_size:
        base = replace(base, batch_size=options.batch_size)
    plain = replace(base, amp="none", channels_last=False, compile=False, num_workers=0)
    ours = replace(
        base,
        amp=options.amp or base.amp,
        channels_last=options.channels_last or base.channels_last,
        compile=options.compile,
        num_workers=base.num_workers if options.num_workers is None else options.num_workers,
    )
    return {"plain fp32": plain, "ours": ours}


def measure(options: argparse.Namespace) -> dict[str, Measured]:
    """Run both ways in turns."""
    device = torch.device("cuda", 0) if options.gpus else torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        ways = {name: Way(config, device) for name, config in configs(options, folder).items()}
        for _ in range(options.rounds):
            for way in ways.values():
                way.run(options.steps)
        return {name: way.measured for name, way in ways.items()}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--data", required=True, help="dataset folder in the layout of rrid-edge train")
    result.add_argument("--preset", choices=sorted(PRESETS), default="demo")
    result.add_argument("--batch-size", type=int)
    result.add_argument("--gpus", type=int, default=0)
    result.add_argument("--threads", type=int, default=0)
    result.add_argument("--amp", choices=["none", "bf16", "fp16"])
    result.add_argument("--channels-last", action="store_true")
    result.add_argument("--compile", action="store_true")
    result.add_argument("--num-workers", type=int)
    result.add_argument("--rounds", type=int, default=4)
    result.add_argument("--steps", type=int, default=4, help="counted steps per block (default: 4)")
    result.add_argument("--json", action="store_true")
    return result


def main() -> None:
    """Measure and print the table."""
    options = parser().parse_args()
    found = measure(options)
    where = torch.cuda.get_device_name(0) if options.gpus else f"{processor_name()}, {core_count()}"
    base = found["plain fp32"].images_per_s
    if options.json:
        print(json.dumps({name: {**vars(one), "images_per_s": one.images_per_s} for name, one in found.items()}))
        return
    print(f"{where}, torch {torch.__version__}, preset {options.preset}, {len(found['ours'].step_s)} steps of each")
    print(f"{'':<12}{'images/s':>10}{'ratio':>8}{'step ms':>10}{'data wait':>11}{'MiB':>8}")
    for name, one in found.items():
        step = statistics.median(one.step_s) * 1000
        print(
            f"{name:<12}{one.images_per_s:>10.1f}{one.images_per_s / base:>8.2f}{step:>10.1f}{one.data_share:>11.1%}"
            f"{one.memory_mib:>8.0f}"
        )


if __name__ == "__main__":
    watched(main)
