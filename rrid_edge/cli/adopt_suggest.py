"""``rrid-edge adopt --suggest``: rank the usual ways to feed a network, with the command for each."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from rrid_edge.cli.common import ProgressBar, print_json, say, show
from rrid_edge.cli.wrapping import show_beside
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_export.adopt.foreign import ForeignNetwork
    from rrid_export.adopt.suggest import Suggestions, SuggestSettings
    from rrid_export.adopt.trials import Trial


def suggest_preprocessing(
    network: ForeignNetwork, settings: SuggestSettings, typed: tuple[str, dict[str, object]], *, as_json: bool
) -> None:
    """Try the usual variants and print them, best first. Nothing is written.

    Args:
        network: the network.
        settings: what to try.
        typed: the model as it was typed, and options that the commands keep; those of value None are left out.
        as_json: print JSON.
    """
    from rrid_export.adopt.suggest import Suggester

    suggester = Suggester(network, settings)
    say(suggester.plan())
    with ProgressBar("trying variants") as bar:
        found = suggester.run(bar)
    for line in found.remarks:
        say(line)

    def command(trial: Trial) -> str:
        return _command(trial, typed)

    if as_json:
        print_json(found.to_dict(command))
        return
    _show(found, command)


def _show(found: Suggestions, command: Callable[[Trial], str]) -> None:
    from rrid_export.adopt.variants import families_like

    show(f"{found.sample.describe()}; {len(found.trials)} variants in {found.seconds:.0f} s")
    if len({trial.variant.color for trial in found.trials}) > 1:
        show("the better order of channels comes first, each order by mAP")
    show("   mAP   rank-1     d'  what the network is fed, and the command")
    for trial in found.trials:
        given = trial.facts.preprocessing
        families = families_like(given)
        told = f"{trial.facts.height_px} x {trial.facts.width_px} px, {given.describe()}"
        told += ", mean of two views" if trial.facts.flip else ""
        told += f" (as {', '.join(families)})" if families else ""
        figures = f"{100 * trial.mean_ap:4.1f} %  {100 * trial.rank_1:5.1f} %  {trial.separation:5.2f}  "
        show_beside(figures, told)
        show(f"                         {command(trial)}")
    for finding in found.findings:
        show(finding.describe(found.trials[0].person_ap.size))
    if not found.findings:
        show("nothing was varied: all facts are given")


def _command(trial: Trial, typed: tuple[str, dict[str, object]]) -> str:
    """The line that adopts the network with the facts of a trial."""
    model, kept = typed
    words = [f"./{model}" if model.startswith("-") else model]
    for option, value in kept.items():
        words += [] if value is None else [option] if value is True else [option, str(value)]
    facts, given = trial.facts, trial.facts.preprocessing
    options = {
        "--size": f"{facts.height_px}x{facts.width_px}",
        "--color": given.color,
        "--scale": _number(given.scale),
        "--mean": ",".join(map(_number, given.mean)),
        "--std": ",".join(map(_number, given.std)),
        "--layout": given.layout,
        "--normalise": given.normalise,
        "--input": given.input,
        "--output": given.output,
    }
    words += [*(word for option in options.items() for word in option), "--flip" if facts.flip else "--no-flip"]
    return " ".join(["rrid-edge adopt", *map(shlex.quote, map(printable, words))])


def _number(value: float) -> str:
    """A number with all its digits."""
    return repr(value).removesuffix(".0")
