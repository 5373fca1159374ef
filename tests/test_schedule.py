"""Learning rates and last steps with their known values."""

import pytest

from schedule import Progress, Schedule


def rate(step, epoch=0, **settings):
    schedule = Schedule(1.0, num_epochs=1, steps_per_epoch=100, **{"scheduler": "constant", **settings})
    return schedule.rate(Progress(epoch, step, step - 100 * epoch if settings.get("scheduler") else step))


def test_a_constant_rate_stays():
    assert rate(50) == 1.0


def test_the_rate_drops_after_its_epochs():
    drops = [rate(0, epoch, scheduler="step") for epoch in (0, 14, 15, 30)]
    assert drops == pytest.approx([1, 1, 0.1, 0.01])
    chosen = [rate(0, epoch, scheduler="step", decay_epochs=[26, 36]) for epoch in (25, 26, 35, 36, 49)]
    assert chosen == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


def test_warm_up_rises_in_equal_steps():
    assert [rate(step, warmup_steps=4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_cosine_ends_at_the_least_rate():
    cosine = {"scheduler": "cosine", "min_learning_rate": 0.2}
    assert [rate(step, **cosine) for step in (0, 50, 100)] == pytest.approx([1.0, 0.6, 0.2])
    assert rate(55, warmup_steps=10, **cosine) == pytest.approx(0.6)


def test_the_last_step_counts_epochs_of_todays_size():
    schedule = Schedule(1.0, num_epochs=3, steps_per_epoch=2)
    resumed = Progress(epoch=1, step=8)  # eight steps in the first epoch, then two in each
    assert schedule.last_step(resumed) == 12 and not schedule.finished(resumed)
    assert schedule.finished(Progress(epoch=3, step=12))


def test_max_steps_stops_within_an_epoch():
    schedule = Schedule(1.0, num_epochs=2, steps_per_epoch=4, max_steps=3)
    assert schedule.last_step(Progress()) == 3 and schedule.total_steps == 8
    assert schedule.finished(Progress(0, 3, 3))
    at_the_end = Schedule(1.0, num_epochs=1, steps_per_epoch=4, max_steps=4)
    assert not at_the_end.finished(Progress(0, 4, 4))  # the epoch is still to be validated
