"""Several training processes: an error or a signal of one ends all at the same step, with one line."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch

from rrid_edge.errors import UsageError
from rrid_train.distributed import OtherProcessError, Processes, lost_connections
from support.small_training import assert_same_runs
from support.training_pair import TrainingPair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingPair]:
    """Two processes, and a run of theirs in ``whole``."""
    with TrainingPair(tmp_path_factory.mktemp("pair")) as found:
        assert found.train("whole") == [0, 0], found.said("whole")
        yield found


def test_only_the_main_process_prints(pair):
    assert pair.said("whole").endswith(f"{pair.root}/whole/best.safetensors\n")
    assert pair.log("whole", 1) == ""


def test_a_cut_image_of_one_process_ends_both_with_one_line_and_the_run_goes_on_exactly(pair):
    assert pair.train("cut", sabotage="cut") == [2, 2]
    assert pair.errors("cut") == [["rrid-edge: a.jpg: it is cut; copy it again"], []]
    assert f"saved at step 3; resume with: rrid-edge train --resume {pair.root}/cut\n" in pair.said("cut")
    assert pair.train("cut", resume=True) == [0, 0]
    assert_same_runs(pair.root / "cut", pair.root / "whole")


def test_a_signal_to_one_process_stops_both_at_the_same_step(pair):
    assert pair.train("stopped", sabotage="stop") == [0, 0]
    assert "stopped by SIGTERM at step 1; resume with" in pair.said("stopped")
    assert pair.train("stopped", resume=True) == [0, 0]
    assert_same_runs(pair.root / "stopped", pair.root / "whole")


def test_an_infinite_loss_in_one_process_ends_both_with_one_line(pair):
    assert pair.train("nan", sabotage="nan") == [1, 1]
    lines = pair.errors("nan")
    assert [len(found) for found in lines] == [1, 0]
    assert lines[0][0].startswith("rrid-edge: the loss is nan at step 0, expected a finite number; ")
    assert not (pair.root / "nan" / "last.state.pt").exists()


def test_the_death_of_one_process_is_one_line_of_the_other(pair):
    assert pair.train("dead", sabotage="die") == [2, -signal.SIGKILL]
    lines = pair.errors("dead")
    assert [len(found) for found in lines] == [1, 0]
    assert "another training process ended, expected all to run to the end; its own message or torchrun" in lines[0][0]


def test_a_lost_connection_is_told_by_the_main_process_only():
    lost = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    cpu = torch.device("cpu")
    for rank, kind in ((0, UsageError), (1, OtherProcessError)):
        with (
            pytest.raises(kind, match="another training process ended") as caught,
            lost_connections(Processes(rank, 2, cpu)),
        ):
            raise lost
        assert caught.value.exit_code == 2
    for processes, error in ((Processes(0, 1, cpu), lost), (Processes(0, 2, cpu), RuntimeError("out of memory"))):
        with pytest.raises(RuntimeError, match=str(error)[-10:]), lost_connections(processes):
            raise error
