"""Measure the tables of BENCHMARKS.md again, one after the other, and keep what each command prints.

Each table is one quiet run: if other programs took more than 10 % of the CPU during its commands, it is measured once
more, and then marked. The files in the folder --out hold the commands, the machine, the share of foreign CPU and the
output. Without names, all tables are measured whose inputs are given. Exit code 1: a table is disturbed or failed.

Run: python benchmarks/tables.py [NAME ...] --model MODEL --checkpoint CHECKPOINT --data DATA
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import table_row, watched
from rrid_edge.files import atomic_output
from rrid_edge.machine.foreign_cpu import Repeats, disturbed, in_words, quietest
from rrid_edge.machine.processor import processor_name, usable_cores

SCRIPTS = Path(__file__).parent
RRID_EDGE = "rrid-edge"


@dataclass(frozen=True)
class Table:
    """A table of BENCHMARKS.md.

    Attributes:
        name: its name here and under its heading.
        commands: what prints it. The first word is a script of this folder, or ``rrid-edge``. Words in braces are
            inputs: ``{model}``, ``{checkpoint}``, ``{data}``, ``{crops}``, ``{out}``.
    """

    name: str
    commands: tuple[str, ...]

    def needs(self) -> set[str]:
        """The inputs that the commands name."""
        words = " ".join(self.commands).split()
        return {word.strip("{}") for word in words if word.startswith("{") and word.endswith("}")}


TABLES = (
    Table("limits", ("rrid-edge bench --quick --model {model}",)),
    Table("bench", ("rrid-edge bench --model {model} --against published --checkpoint {checkpoint}",)),
    Table(
        "fused",
        ("fused_model.py --batch 8 --repetitions 11 --compile", "fused_model.py --batch 1 --repetitions 15 --compile"),
    ),
    Table("peers", ("peers.py {model}",)),
    Table("int8-graph", ("int8_graph.py {model} --data {data}",)),
    Table("accuracy", ("engine_accuracy.py {checkpoint} --data {data}",)),
    Table(
        "one-view",
        (
            "rrid-edge export {checkpoint} --no-flip --output {out}/one-view",
            "rrid-edge evaluate {model} --dataset {data}",
            "rrid-edge evaluate {out}/one-view/rrid.onnx --dataset {data}",
        ),
    ),
    Table("decoding", ("decoding.py", "decoding.py --height 192 --width 64")),
    Table("memory", ("index_memory.py --model {model} --rows 5000",)),
    Table("startup", ("startup.py {model} --rows 20000 --repetitions 9 --folder {out}/startup",)),
    Table("layers", ("profile_engines.py {model} --batches 1 16",)),
    Table(
        "search",
        (
            "rrid-edge index {crops} --model {model}",
            "rrid-edge gallery export {crops} {out}/descriptors.npz",
            "gallery_search.py {out}/descriptors.npz --rows 20000 100000",
            "gallery_search.py --random --rows 20000",
        ),
    ),
    Table("store", ("gallery_store.py",)),
    Table("growing", ("growing.py",)),
    Table("first-search", ("first_search.py --rows 20000 100000 300000",)),
    Table("evaluation", ("evaluation.py",)),
    Table("reranking", ("reranking.py --repetitions 5",)),
    Table("training", ("training_speed.py --data {data} --preset demo --threads 2",)),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a table.

    Attributes:
        text: commands and their output.
        failed: the command that ended with another code than 0, or empty.
        minutes: how long the last run took.
    """

    text: str
    failed: str
    minutes: float


def command_of(line: str, inputs: Mapping[str, str]) -> list[str]:
    """Return the words to run: a script of this folder with this Python, or this Python's ``rrid-edge``."""
    first, *words = (part.format_map(inputs) for part in shlex.split(line))
    if first == RRID_EDGE:
        return [sys.executable, "-c", "from rrid_edge.cli import main; main()", *words]
    return [sys.executable, str(SCRIPTS / first), *words]


def run_once(table: Table, inputs: Mapping[str, str]) -> Outcome:
    """Run all commands of a table, up to the first that fails."""
    start, parts = time.monotonic(), list[str]()
    for line in table.commands:
        done = subprocess.run(  # noqa: S603 - our own scripts
            command_of(line, inputs), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        parts.append(f"$ {line.format_map(inputs)}\n{done.stdout}")
        if done.returncode:
            return Outcome("\n".join(parts), line, (time.monotonic() - start) / 60)
    return Outcome("\n".join(parts), "", (time.monotonic() - start) / 60)


def measure(tables: Iterable[Table], inputs: Mapping[str, str]) -> bool:
    """Measure tables, keep their output, and print one line each. Return whether all are quiet and complete."""
    print(table_row(("table", "minutes", "foreign CPU", "file")))
    print(table_row(["---"] * 4))
    good = True
    for table in tables:
        outcome, share = quietest(lambda table=table: run_once(table, inputs), Repeats(2))  # type: ignore[misc]
        path = Path(inputs["out"]) / f"{table.name}.txt"
        head = f"{processor_name()}, {usable_cores()} cores, {time.strftime('%Y-%m-%d')}\n{in_words(share)}\n\n"
        with atomic_output(path) as partial:
            partial.write_text(head + outcome.text, encoding="utf-8")
        state = f"failed: {outcome.failed}" if outcome.failed else "-" if share is None else f"{share:.0%}"
        print(table_row((table.name, f"{outcome.minutes:.1f}", state, path)), flush=True)
        good = good and not outcome.failed and not disturbed(share)
    return good


def chosen(names: Sequence[str], inputs: Mapping[str, str]) -> list[Table]:
    """Return the tables of these names, or all whose inputs are given."""
    unknown = sorted(set(names) - {table.name for table in TABLES})
    if unknown:
        sys.exit(f"tables: {unknown[0]!r} is unknown: expected one of {', '.join(table.name for table in TABLES)}")
    found = [table for table in TABLES if not names or table.name in names]
    ready = [table for table in found if table.needs() <= inputs.keys()]
    for table in found:
        if table not in ready:
            missing = ", ".join(sorted(f"--{name}" for name in table.needs() - inputs.keys()))
            print(f"not measured: {table.name} (give {missing})", file=sys.stderr)
    return ready


def main() -> int:
    """Measure the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(table.name for table in TABLES))
    parser.add_argument("--model", help="an exported ONNX file")
    parser.add_argument("--checkpoint", help="the network that it was exported from")
    parser.add_argument("--data", help="a dataset")
    parser.add_argument("--crops", help="a folder of crops to index for the table of searches")
    parser.add_argument("--out", default="runs/tables", help="folder of the files")
    options = vars(parser.parse_args())
    names = options.pop("names")
    inputs = {name: value for name, value in options.items() if value is not None}
    Path(inputs["out"]).mkdir(parents=True, exist_ok=True)
    return 0 if measure(chosen(names, inputs), inputs) else 1


if __name__ == "__main__":
    watched(main)
