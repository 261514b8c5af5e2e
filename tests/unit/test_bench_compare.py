"""Two sweeps: the same thing twice is no change, and a slowdown is found."""

import random

import pytest

from tritonbulk.bench.compare import compare
from tritonbulk.bench.setting import Setting, Variant
from tritonbulk.bench.trial import Noise, Trial

SETTINGS = [
    Setting(rows, width, Variant(1, 0, 4096, "1")) for rows in (64, 1024) for width in (1, 4)
]


def sweep(seed, factor=1.0, repeats=5, spread=0.05, drift=0.02):
    """Return trials whose rates scatter, around a level that drifts from round to round."""
    generator = random.Random(seed)
    trials = []
    for number in range(repeats):
        level = factor * (1 + generator.gauss(0, drift))
        for setting in SETTINGS:
            rate = 1000 * setting.batch_rows * level * (1 + generator.gauss(0, spread))
            trials.append(Trial(setting, number, "", rows_per_second=rate))
    return trials


def test_the_same_twice_is_no_change_and_ten_percent_are_one():
    runs = 200
    same = [compare(sweep(2 * n), sweep(2 * n + 1))[0] for n in range(runs)]
    assert sum(each.change == "no change" for each in same) / runs >= 0.95
    slower = [compare(sweep(2 * n), sweep(2 * n + 1, factor=0.9))[0] for n in range(runs)]
    assert sum(each.change == "slower" for each in slower) / runs >= 0.90
    assert not any(each.change == "faster" for each in slower)


def test_effects_below_the_threshold_are_no_change_however_sure():
    first, second = (sweep(1, factor, spread=0, drift=0) for factor in (1.0, 0.97))
    overall, single = compare(first, second)
    assert overall.change == "no change"
    assert overall.ratio.excludes(1.0)
    assert {each.change for each in single} == {"no change"}
    assert compare(first, second, threshold=0.02)[0].change == "slower"


def test_one_round_is_too_little_to_say_anything():
    first, second = (sweep(1, factor, repeats=1) for factor in (1.0, 0.5))
    assert compare(first, second)[0].change == "no change"


def test_only_settings_of_both_are_compared_and_without_any_it_says_so():
    first, second = sweep(1), sweep(2)
    overall, single = compare(first, [t for t in second if t.setting == SETTINGS[0]])
    assert [each.setting for each in single] == [SETTINGS[0]]
    assert overall.pairs == 5
    with pytest.raises(ValueError, match="no setting"):
        compare(first, [])


def test_noisy_trials_are_left_out_where_enough_others_are_there():
    def noisy(trials, rounds):
        return [
            Trial(t.setting, t.round, "", rows_per_second=t.rows_per_second / 2,
                  noise=Noise(1.0, 0.0)) if t.round in rounds else t
            for t in trials
        ]  # fmt: skip

    first, second = sweep(1, repeats=5), sweep(2, repeats=5)
    assert compare(first, noisy(second, {0, 1}))[0].change == "no change"
    assert compare(first, noisy(second, {0, 1}))[0].pairs == 3
    assert compare(first, noisy(second, {0, 1, 2, 3, 4}))[0].change == "slower"
