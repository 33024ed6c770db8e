import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cnn_transfer.training import Optimisation


def test_a_schedule_has_a_length(schedule):
    with pytest.raises(ValidationError, match="give epochs or steps"):
        Optimisation(**schedule().model_dump() | {"epochs": None, "steps": None})


def test_steps_decide_alone(schedule):
    course = schedule(steps=7, epochs=10, least_steps=500, most_steps=600, validations=1)
    assert course.pace(160) == (7, 7, 1)


def test_epochs_are_passes_over_the_training_images(schedule):
    assert schedule(epochs=10, batch_size=16, validations=5).pace(160) == (20, 20, 5)
    assert schedule(epochs=1, batch_size=64, validations=1).pace(3) == (1, 1, 1)


@given(steps=st.integers(1, 5000), validations=st.integers(1, 50))
def test_a_schedule_is_about_as_long_as_it_says(schedule, steps, validations):
    pace = schedule(steps=steps, validations=validations).pace(1000)
    assert pace.interval % pace.steps_per_call == 0
    assert 1 <= pace.steps_per_call <= 25
    assert pace.steps_per_call >= min(13, pace.interval)
    assert pace.validations >= min(steps, validations)
    assert abs(pace.interval * pace.validations - steps) <= pace.interval / 2


@pytest.mark.parametrize(
    "bad",
    [
        {"learning_rate": 0},
        {"learning_rate": 1.5},
        {"batch_size": 0},
        {"steps": 0},
        {"warmup_fraction": 0.6},
        {"label_smoothing": 1.0},
        {"patience": 0},
        {"validations": 0},
        {"depth_decay": 0},
        {"depth_decay": 1.1},
        {"gradient_clip": 0},
        {"accumulated_batches": 0},
        {"towards_start": -1},
        {"towards_start": 11},
    ],
)
def test_an_impossible_schedule_is_refused(schedule, bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        schedule(**bad)


def test_accumulated_batches_count_as_one_step(schedule):
    course = schedule(epochs=10, batch_size=16, accumulated_batches=4, validations=5)
    assert course.images_per_step == 64
    assert course.pace(640) == (20, 20, 5)


@pytest.mark.parametrize(
    ("training_images", "steps"),
    [(50, 500), (1600, 500), (3200, 1000), (32_000, 10_000), (1_000_000, 10_000)],
)
def test_bounds_keep_epochs_from_being_too_few_or_too_many_steps(schedule, training_images, steps):
    course = schedule(epochs=10, batch_size=32, validations=1, least_steps=500, most_steps=10_000)
    pace = course.pace(training_images)
    assert pace.interval * pace.validations == pytest.approx(steps, rel=0.02)


def test_bounds_the_wrong_way_round_are_refused(schedule):
    with pytest.raises(ValidationError, match="least_steps must be at most most_steps, which is 5"):
        schedule(epochs=10, least_steps=6, most_steps=5)
