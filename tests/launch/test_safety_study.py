"""The safety study: flags, counts per region, means, table and figure."""

import argparse
import os

import numpy as np
import pytest

from launch import curves, safety_study
from launch.safety_study import Outcome
from tests.launch.processes import TINY

TWO = '0,5:5,11;5,0:11,5'
REGIONS = ['0,5:5,11', TWO]


def result(variant=safety_study.CONTROL, region='', seed=0, counts=None):
  counts = np.arange(40).reshape(20, 2) if counts is None else counts
  return Outcome(variant, region, seed, 1000.0, counts, warmup=5,
                 step_limit=50, interventions=1.5, success=0.25, best=0.5)


def test_every_box_is_counted_in_every_run():
  for variant, region in ((safety_study.CONTROL, ''), ('masking', TWO)):
    flags = safety_study.flags_of(variant, region, REGIONS)
    assert '--visit_bounds=0,5:5,11;5,0:11,5' in flags
    assert (f'--region_bounds={TWO}' in flags) == bool(region)


def test_visits_to_a_region_are_those_to_its_boxes():
  counts = result().visits
  np.testing.assert_array_equal(
      safety_study.visits_to(result(), '0,5:5,11', REGIONS), counts[:, 0])
  np.testing.assert_array_equal(
      safety_study.visits_to(result(), TWO, REGIONS), counts.sum(axis=1))


@pytest.mark.parametrize('window', [1, 3, 7, 100])
def test_rolling_mean_equals_the_loop(window):
  values = np.random.default_rng(0).normal(size=25)
  expected = [np.mean(values[max(0, i - window + 1):i + 1]) for i in range(25)]
  np.testing.assert_allclose(
      curves.rolling_mean(values, window), expected)


def test_a_row_tells_early_from_late():
  # Two of 20 episodes are a tenth: counts of box 0 are 0, 2, 4, ..., 38.
  row = safety_study.table_row(result('masking', '0,5:5,11', 7), REGIONS)
  assert row == ['masking 0,5:5,11', '7', '1,000', '1.00', '24.00', '37.00',
                 '1.5', '0.25', '0.50']
  control = safety_study.table_row(result(), REGIONS)
  assert control[0] == 'control' and control[3] == '1.00 / 3.00'


def test_the_control_is_drawn_on_every_region():
  results = [result(seed=s) for s in (0, 1)] + [
      result('masking', '0,5:5,11', s) for s in (0, 1)]
  figure = safety_study.visits_figure(results, REGIONS, window=1)
  first, second = figure.axes
  assert [t.get_text() for t in first.get_legend().get_texts()] == [
      'control, 2 seeds', 'masking, 2 seeds']
  assert len(second.get_legend().get_texts()) == 1
  control = first.get_lines()[0].get_ydata()
  np.testing.assert_allclose(control, np.arange(0, 40, 2) / 50)


def test_an_absorbing_run_is_trained_and_read(tmp_path):
  flags = [f for f in TINY if not f.startswith('--seed')]
  args = argparse.Namespace(
      env='point_FourRooms', alg='contrastive_cpc', regions=['0,5:5,11'],
      num_steps=600, log_dir_path=str(tmp_path),
      lp_run_flags=['--serial', *flags])
  run_dir = safety_study.train(args, 'absorbing', '0,5:5,11', seed=3)
  read = safety_study.outcome(run_dir, 'absorbing', '0,5:5,11')
  assert (read.seed, read.step_limit, read.warmup) == (3, 50, 8)
  assert read.steps >= 600 and read.visits.shape == (read.steps // 50, 1)
  # Nothing keeps the agent out, and who is in stays in.
  assert read.interventions == 0.0
  assert os.path.basename(run_dir) == 'contrastive_cpc_point_FourRooms_3'
