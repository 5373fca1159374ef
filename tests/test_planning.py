"""The costs of a run are known before it."""

import pytest

import run
from tests import runs
from training import planning

pytestmark = pytest.mark.usefixtures("one_thread")


def test_costs_in_words():
    plan = planning.Plan(batch_size=4, seconds=2.0, peak=3 * 2**30, fits=9, loading=0.1)
    step, loading, hours, fits = plan.sentences(3600, batch_size=4, accumulate=2, workers=1)
    assert step == "a step of 4 samples takes 2 s, peak memory 3.00 GiB"
    assert loading.endswith("with --num_workers 1, networks and losses set the pace")
    assert hours == "3600 steps take 4 hours, without validation"  # two batches of 2 s in each
    assert fits == "a batch size of up to 9 fits into the memory"


def test_slow_loader_sets_the_hours():
    plan = planning.Plan(batch_size=4, seconds=1.0, peak=None, fits=None, loading=1.0)
    _, loading, hours = plan.sentences(3600, batch_size=4, accumulate=1, workers=2)
    assert loading.endswith("--num_workers 2, the loader sets the pace")
    assert hours.startswith("3600 steps take 2 hours")


def test_dry_run_prints_measured_costs(tiny_kitti, tmp_path, capsys):
    run.main([*runs.arguments(tiny_kitti, tmp_path), "--dry_run"])
    shown = capsys.readouterr().out
    assert "a step of 4 samples takes" in shown and "8 steps take" in shown
    assert "networks: float32, contiguous" in shown and "photometric error: " in shown
    assert not (tmp_path / "run").exists()


def test_batch_that_fits_follows_from_two_sizes(tiny_kitti, tmp_path, monkeypatch):
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path))
    monkeypatch.setattr(planning, "_step", lambda trainer, sample, count: (1.0, 100 + 10 * count))
    monkeypatch.setattr(planning, "_memory", lambda device: 1000)
    assert planning.measure(trainer).fits == 80  # 0.9 of 1000 holds 100 and 80 samples of 10
    monkeypatch.setattr(planning, "_memory", lambda device: 130)
    plan = planning.measure(trainer)
    assert (plan.batch_size, plan.fits) == (2, 1)  # four samples are not tried
    assert plan.sentences(8, 4, 1, 0)[-1].endswith("--batch_size 4 may not fit")
