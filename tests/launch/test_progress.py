"""The progress line, word for word."""

import math

import pytest

from launch.progress import Figures, progress_line

KNOWN = dict(
    num_steps=60_000, steps=15_000, seconds=3_725.4, steps_per_second=250.0,
    updates_per_second=1_234.4, actor_wait=0.125, learner_wait=0.5,
    parameter_age=63.6, success=0.875, eval_success=1.0, visits=0.25,
    interventions=12.34)


def test_a_line_says_where_the_run_stands():
  # 45 000 steps at 250 a second are three minutes.
  assert progress_line(Figures(**KNOWN)) == (
      '1:02:05 step 15,000/60,000 (25%) eta 0:03:00 | '
      '250 steps/s 1234 updates/s | wait actors 12% learner 50% age 64 | '
      'success 0.88 eval 1.00 | visits/ep 0.25 interventions/ep 12.3')


def test_what_is_not_known_is_a_dash():
  assert progress_line(Figures(num_steps=100)) == (
      '0:00:00 step 0/100 (0%) eta - | 0 steps/s - updates/s | '
      'wait actors - learner - age - | success - eval - | '
      'visits/ep - interventions/ep -')


@pytest.mark.parametrize('steps, bar', [
    (0, '....................'), (15_000, '#####...............'),
    (59_000, '####################'), (60_000, '####################'),
    (70_000, '####################')])
def test_the_bar_fills_with_the_steps(steps, bar):
  figures = Figures(**{**KNOWN, 'steps': steps})
  line = progress_line(figures, bar=True)
  assert line == f'[{bar}] ' + progress_line(figures)


@pytest.mark.parametrize('steps, speed, eta', [
    (0, 1.0, '16:40:00'), (59_999, 0.5, '0:00:02'), (0, 0.5, '1 day, 9:20:00'),
    (60_000, 100.0, '-'), (60_100, 100.0, '-'), (1000, 0.0, '-')])
def test_the_time_to_go_is_known_while_there_is_some(steps, speed, eta):
  line = progress_line(Figures(
      num_steps=60_000, steps=steps, steps_per_second=speed))
  assert f' eta {eta} |' in line


def test_more_steps_than_asked_for_are_not_more_than_all():
  line = progress_line(Figures(num_steps=60_000, steps=61_234))
  assert 'step 61,234/60,000 (100%)' in line


def test_the_actors_row_updates_the_figures():
  figures = Figures(**KNOWN)
  figures.update({
      'wait_fraction': 0.75, 'parameter_age': 5.0, 'success_100': 0.5,
      'success': 0.1, 'region_visits_100': 2.0, 'interventions_100': 3.0})
  assert (figures.actor_wait, figures.parameter_age, figures.success,
          figures.visits, figures.interventions) == (0.75, 5.0, 0.5, 2.0, 3.0)
  figures.update({'wait_fraction': 0.75, 'parameter_age': math.nan,
                  'success_100': 0.5})
  line = progress_line(figures)
  assert 'age -' in line and 'visits/ep - interventions/ep -' in line


def test_without_success_the_return_is_shown():
  line = progress_line(Figures(
      num_steps=100, episode_return=-12.34, eval_return=200.0))
  assert line.endswith('age - | return -12.3 eval 200.0')
