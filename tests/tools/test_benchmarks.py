"""Benchmarks refuse settings that cannot work before they render anything."""

import argparse

import pytest

from benchmarks import surround_table
from tests.tiny_models import save_run
from utils import InputError


def test_start_run_of_another_encoder_is_refused_at_once(tmp_path):
    run = save_run(tmp_path / "run")  # resnet18
    given = argparse.Namespace(start=str(run), encoder="resnet10t", pose_encoder=None)
    with pytest.raises(InputError, match=r"run has the encoder resnet18 .*; give --encoder resnet18"):
        surround_table.check_start(given)
    surround_table.check_start(argparse.Namespace(start=str(run), encoder="resnet18", pose_encoder=None))
