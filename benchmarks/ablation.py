"""Measure what each part of RRID adds on the demo data: local parts, one-vs-rest relations, global contrastive pooling.

Trains three networks with several seeds on the same data and settings (preset ``demo``). Measures them on the test
split, whose people are not in the training data. A descriptor holds the features that its network is trained on. These
are 12 projected parts, 12 relation features, or 12 relation features and 3 global contrastive features.

Run: python benchmarks/ablation.py --data demo --seeds 0 1 2 --threads 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from common import watched
from rrid_edge.files import write_json
from rrid_train.distributed import Processes
from rrid_train.loop import Trainer
from rrid_train.model import RRID, RRIDOutput
from rrid_train.settings import PRESETS, TrainConfig
from rrid_train.validation import validate


class PartsOnly(RRID):
    """Uses every stripe alone: its projected maximum is a block of the descriptor and is classified."""

    def head(self, features: Tensor) -> RRIDOutput:
        """Return the projected stripes and the logits of their classifiers."""
        rows, columns = features.shape[2:]
        blocks: list[Tensor] = []
        logits: list[Tensor] = []
        for count in self.config.stripes:
            pooled = F.max_pool2d(features, (rows // count, columns))
            for index in range(count):
                part = self._run(f"local_{count}_conv_list", index, pooled[:, :, index : index + 1]).flatten(1)
                blocks.append(part)
                logits.append(self._run(f"fc_local_{count}_list", index, part))
        return RRIDOutput(torch.stack(blocks, dim=1), torch.stack(logits))


class WithRelations(RRID):
    """Uses the one-vs-rest relation features of every stripe, without global features."""

    def head(self, features: Tensor) -> RRIDOutput:
        """Return the stripes' relation features, and the logits of these, of the stripes and of their rests."""
        whole = super().head(features)
        stripes = sum(self.config.stripes)
        return RRIDOutput(whole.blocks[:, :stripes], whole.logits[: 3 * stripes])


NETWORKS = {
    "parts only": PartsOnly,
    "+ one-vs-rest relation": WithRelations,
    "+ global contrastive pooling (RRID)": RRID,
}


def run_one(name: str, config: TrainConfig) -> dict[str, float]:
    """Train one network and measure it on the test split: mAP and CMC in [0, 1]."""
    processes = Processes(0, 1, torch.device("cpu"))
    trainer = Trainer(config, processes, network=NETWORKS[name])
    trainer.run()
    # The last epoch's network: choosing the best epoch would favour the network that varies most.
    return validate(trainer.model, config, processes.device, trainer.dataset.query, trainer.dataset.gallery)


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Return means and spreads (standard deviation over the seeds) as a Markdown table."""
    lines = ["| network | seeds | mAP | spread | rank-1 | spread | mAP of each seed |", "|---|---|---|---|---|---|---|"]
    for name, runs in results.items():
        cells = [name, str(len(runs))]
        for key in ("mAP", "rank-1"):
            values = [run[key] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells += [f"{100 * statistics.fmean(values):.1f}", f"{100 * spread:.1f}"]
        cells.append(", ".join(f"{100 * run['mAP']:.1f}" for run in runs))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train all networks, print the table and write the numbers to the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo", help="folder of demo data (rrid-edge demo-data demo)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=PRESETS["demo"].epochs)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation.json"))
    options = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {name: [] for name in NETWORKS}
    for seed in options.seeds:
        for name in NETWORKS:
            with tempfile.TemporaryDirectory() as folder:
                config = replace(
                    PRESETS["demo"],
                    dataset_path=options.data,
                    exp_dir=folder,
                    seed=seed,
                    epochs=options.epochs,
                    threads=options.threads,
                    num_workers=0,
                    val_every=0,
                    combine_trainval=True,
                )
                results[name].append(run_one(name, config))
            print(f"seed {seed}, {name}: {json.dumps(results[name][-1])}", file=sys.stderr, flush=True)
            write_json(options.out, results)
    print(table(results))


if __name__ == "__main__":
    watched(main)
