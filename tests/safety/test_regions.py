"""Parsing of regions, membership, distance, and what makes them unusable."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from envs import registry
from safety import regions
from safety.regions import Box

pytestmark = pytest.mark.usefixtures('quick_compile')
MODULES = pytest.mark.parametrize('xp', [np, jnp], ids=['numpy', 'jax'])
TWO = (Box((0.0, 0.0), (2.0, 1.0)), Box((4.0, 3.0), (5.0, 7.0)))


class TestParsing:

  @pytest.mark.parametrize('text, boxes', [
      ('0,5:5,11', [((0, 5), (5, 11))]),
      ('5,0:11,5', [((5, 0), (11, 5))]),
      (' 0 , 5 : 5 , 11 ', [((0, 5), (5, 11))]),
      ('-1.5,2e1:.5,20', [((-1.5, 20), (0.5, 20))]),
      ('1,1:1,1', [((1, 1), (1, 1))]),
      ('0,8:3,11;7,0:11,4', [((0, 8), (3, 11)), ((7, 0), (11, 4))]),
      ('7,0:11,4 ; 0,8:3,11;1,1:2,2',
       [((7, 0), (11, 4)), ((0, 8), (3, 11)), ((1, 1), (2, 2))]),
  ])
  def test_reads_boxes_in_order(self, text, boxes):
    assert regions.parse_region_bounds(text) == tuple(
        Box(lower, upper) for lower, upper in boxes)

  @pytest.mark.parametrize('text', [None, '', '   '])
  def test_no_text_is_no_region(self, text):
    assert regions.parse_region_bounds(text) == ()

  def test_reads_other_dimensions(self):
    assert regions.parse_region_bounds('1,2,3:4,5,6', num_dims=3) == (
        Box((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),)
    assert regions.parse_region_bounds('1:4', num_dims=1) == (
        Box((1.0,), (4.0,)),)

  @pytest.mark.parametrize('text, complaint', [
      ('5,0:0,5', 'lower corner above its upper'),
      ('0,5:5,4', 'lower corner above its upper'),
      ('nan,0:1,1', 'not finite'),
      ('0,0:inf,1', 'not finite'),
      ('0,-inf:1,1', 'not finite'),
      ('0,0', "one ':'"),
      ('0,0:1,1:2,2', "one ':'"),
      ('0,0:1,1;', "one ':'"),
      ('0:1', 'needs 2 numbers, got: 1'),
      ('0,0,0:1,1,1', 'needs 2 numbers, got: 3'),
      ('0,0:1', 'needs 2 numbers, got: 1'),
      ('a,0:1,1', 'not made of numbers'),
      ('0,0:1,', 'not made of numbers'),
      ('0 0:1 1', 'needs 2 numbers, got: 1'),
      ('(0,0):(1,1)', 'not made of numbers'),
  ])
  def test_refuses(self, text, complaint):
    with pytest.raises(ValueError) as error:
      regions.parse_region_bounds(text)
    assert complaint in str(error.value)
    assert f"'{text}'" in str(error.value)
    assert regions.FORMAT in str(error.value)

  def test_the_wrong_number_of_dimensions_is_refused(self):
    with pytest.raises(ValueError, match='needs 3 numbers, got: 2'):
      regions.parse_region_bounds('0,0:1,1', num_dims=3)

  def test_one_bad_box_refuses_all(self):
    with pytest.raises(ValueError):
      regions.parse_region_bounds('0,0:1,1;3,3:2,2')

  def test_problems_of_all_boxes_are_told_at_once(self):
    with pytest.raises(ValueError) as error:
      regions.parse_region_bounds('5,5:1,1;0,0:1,1;a,0:1,1;0,0:1,inf;7')
    for complaint in ("'5,5:1,1' has a lower corner above",
                      "corner 'a,0' is not made of numbers",
                      "'0,0:1,inf' has a coordinate that is not finite",
                      "'7' needs one ':'"):
      assert complaint in str(error.value)
    assert "'0,0:1,1'" not in str(error.value)

  def test_problems_of_both_corners_are_told_at_once(self):
    with pytest.raises(ValueError) as error:
      regions.parse_region_bounds('a,0:1')
    assert "corner 'a,0' is not made of numbers" in str(error.value)
    assert "corner '1' needs 2 numbers" in str(error.value)

  def test_the_documented_example_parses(self):
    example = regions.FORMAT.split("'")[1]
    assert regions.parse_region_bounds(example) == (
        Box((0.0, 5.0), (5.0, 11.0)),)


class TestContains:

  @MODULES
  @pytest.mark.parametrize('point, inside', [
      ((0.0, 0.0), True), ((2.0, 1.0), True), ((0.0, 1.0), True),
      ((1.0, 0.5), True), ((2.0, 0.5), True), ((1.0, 1.0), True),
      ((2.001, 0.5), False), ((1.0, -0.001), False), ((-0.001, 0.5), False),
      ((4.5, 5.0), True), ((4.0, 7.0), True), ((3.999, 5.0), False),
      ((5.0, 0.5), False), ((1.0, 5.0), False), ((3.0, 2.0), False),
  ])
  def test_borders_are_inside_and_boxes_unite(self, xp, point, inside):
    assert bool(regions.contains(TWO, xp.asarray(point), xp)) == inside

  @MODULES
  def test_each_box_is_told_apart(self, xp):
    points = xp.asarray([[1.0, 0.5], [4.5, 4.0], [3.0, 3.0]])
    each = regions.contains_each(TWO, points, xp)
    np.testing.assert_array_equal(
        each, [[True, False], [False, True], [False, False]])

  @MODULES
  def test_overlapping_boxes_unite(self, xp):
    overlapping = (Box((0.0, 0.0), (2.0, 2.0)), Box((1.0, 1.0), (3.0, 3.0)))
    points = xp.asarray([[0.5, 0.5], [1.5, 1.5], [2.5, 2.5], [0.5, 2.5]])
    np.testing.assert_array_equal(
        regions.contains(overlapping, points, xp), [True, True, True, False])

  @MODULES
  def test_keeps_leading_dimensions(self, xp):
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.0, 8.0, (3, 5, 2))
    result = np.asarray(regions.contains(TWO, xp.asarray(points), xp))
    assert result.shape == (3, 5)
    for i in range(3):
      for j in range(5):
        x, y = points[i, j]
        assert result[i, j] == (
            (0 <= x <= 2 and 0 <= y <= 1) or (4 <= x <= 5 and 3 <= y <= 7))

  @MODULES
  def test_no_region_holds_nothing(self, xp):
    result = regions.contains((), xp.zeros((4, 3, 2)), xp)
    assert result.shape == (4, 3)
    assert not np.any(result)

  def test_refuses_points_of_other_dimensions(self):
    with pytest.raises(ValueError, match='points have 3 coordinates'):
      regions.contains(TWO, np.zeros((4, 3)), np)

  def test_x_is_the_row(self):
    # In FourRooms: rows 0 to 5, columns 5 to 11.
    box = regions.parse_region_bounds('0,5:5,11')
    walls = registry.lookup('point_FourRooms').walls
    for row in range(walls.shape[0]):
      for col in range(walls.shape[1]):
        centre = np.array([row + 0.5, col + 0.5])
        assert bool(regions.contains(box, centre, np)) == (
            row < 5 and col >= 5), (row, col)
    for row, col, inside in [(0, 5, True), (5, 11, True), (5, 5, True),
                             (5.1, 11, False), (5, 4.9, False),
                             (11, 5, False), (8, 2, False), (2, 8, True)]:
      assert bool(
          regions.contains(box, np.array([row, col], float), np)) == inside


def signed_distance_by_search(boxes, point):
  """Searches a fine outline of every box for the nearest point."""
  best = math.inf
  for (x0, y0), (x1, y1) in boxes:
    xs, ys = np.linspace(x0, x1, 4001), np.linspace(y0, y1, 4001)
    outline = np.concatenate([
        np.stack([xs, np.full_like(xs, y)], -1) for y in (y0, y1)] + [
        np.stack([np.full_like(ys, x), ys], -1) for x in (x0, x1)])
    nearest = np.min(np.hypot(*(outline - point).T))
    inside = x0 <= point[0] <= x1 and y0 <= point[1] <= y1
    best = min(best, -nearest if inside else nearest)
  return best


class TestDistance:

  @MODULES
  def test_equals_a_search_along_the_outline(self, xp):
    points = np.random.default_rng(1).uniform(-2.0, 9.0, (120, 2))
    points[:20] = np.random.default_rng(2).uniform((0, 0), (2, 1), (20, 2))
    points[20:40] = np.random.default_rng(3).uniform((4, 3), (5, 7), (20, 2))
    result = regions.distance(TWO, xp.asarray(points), xp)
    assert result.shape == (120,)
    expected = [signed_distance_by_search(TWO, p) for p in points]
    np.testing.assert_allclose(result, expected, atol=2e-3)
    assert np.sum(np.asarray(result) < 0) >= 40

  @MODULES
  @pytest.mark.parametrize('point, expected', [
      ((3.0, 0.5), 1.0), ((1.0, -2.0), 2.0), ((1.0, 0.4), -0.4),
      ((0.0, 0.5), 0.0), ((2.0, 1.0), 0.0), ((4.5, 5.0), -0.5),
      ((-3.0, -4.0), 5.0), ((3.0, 2.0), math.sqrt(2.0)),
  ])
  def test_by_hand(self, xp, point, expected):
    np.testing.assert_allclose(
        regions.distance(TWO, xp.asarray(point), xp), expected, atol=1e-6)

  @MODULES
  def test_its_sign_agrees_with_membership(self, xp):
    overlapping = TWO + (Box((1.0, 0.5), (4.5, 4.0)),)
    points = xp.asarray(np.random.default_rng(4).uniform(-1, 8, (500, 2)))
    np.testing.assert_array_equal(
        regions.distance(overlapping, points, xp) <= 0,
        regions.contains(overlapping, points, xp))

  @MODULES
  def test_keeps_leading_dimensions(self, xp):
    points = np.random.default_rng(5).uniform(-1.0, 8.0, (3, 4, 2))
    result = np.asarray(regions.distance(TWO, xp.asarray(points), xp))
    assert result.shape == (3, 4)
    for i, j in np.ndindex(3, 4):
      np.testing.assert_allclose(
          result[i, j], signed_distance_by_search(TWO, points[i, j]),
          atol=2e-3)

  @MODULES
  def test_no_region_is_infinitely_far(self, xp):
    result = regions.distance((), xp.zeros((4, 2)), xp)
    np.testing.assert_array_equal(result, np.full(4, np.inf))

  def test_three_dimensions(self):
    cube = regions.parse_region_bounds('0,0,0:2,2,2', num_dims=3)
    points = np.array([[3.0, 3.0, 3.0], [1.0, 1.0, 0.25], [1.0, 5.0, 1.0]])
    np.testing.assert_allclose(
        regions.distance(cube, points, np), [math.sqrt(3.0), -0.25, 3.0],
        rtol=1e-6)


class TestProblems:

  def test_a_region_away_from_both_is_fine(self):
    box = regions.parse_region_bounds('0,5:5,11')
    assert regions.problems_with(box, (0.0, 0.0), (10.0, 8.0), 0.1) == []

  def test_nothing_is_wrong_with_no_region(self):
    assert regions.problems_with((), (0.0, 0.0), (10.0, 8.0), 0.1) == []

  def test_a_sampled_start_and_goal_cannot_be_held(self):
    box = regions.parse_region_bounds('0,0:11,11')
    assert regions.problems_with(box, None, None, 0.1) == []

  @pytest.mark.parametrize('text, held', [
      ('9,7:11,9', True), ('10,8:11,9', True), ('0,0:10,8', True),
      ('10.01,8:11,9', False), ('0,9:11,11', False)])
  def test_the_goal_must_be_outside_borders_included(self, text, held):
    box = regions.parse_region_bounds(text)
    found = regions.problems_with(box, None, (10.0, 8.0))
    assert len(found) == held
    if held:
      assert 'goal (10.0, 8.0)' in found[0]

  @pytest.mark.parametrize('text, jitter, held', [
      ('1,1:3,3', 0.0, True), ('2,2:3,3', 0.0, True),
      ('2.05,1:3,3', 0.0, False), ('2.05,1:3,3', 0.1, True),
      ('2.05,2.05:3,3', 0.1, True), ('2.2,1:3,3', 0.1, False),
      ('1,2.05:3,2.06', 0.1, True), ('2.05,2.2:3,3', 0.1, False)])
  def test_the_start_must_be_outside_with_its_jitter(self, text, jitter, held):
    box = regions.parse_region_bounds(text)
    found = regions.problems_with(box, (2.0, 2.0), None, jitter)
    assert len(found) == held
    if held:
      assert 'start (2.0, 2.0)' in found[0]

  def test_everything_is_listed_and_names_its_region(self):
    boxes = regions.parse_region_bounds('0,0:1,1;4,4:6,6;0,0:9,9')
    found = regions.problems_with(boxes, (0.5, 0.5), (5.0, 5.0), 0.1)
    assert len(found) == 4
    assert sum('0,0:1,1' in p for p in found) == 1
    assert sum('4,4:6,6' in p for p in found) == 1
    assert sum('0,0:9,9' in p for p in found) == 2

  def test_a_goal_on_a_decimal_border_is_held_as_the_mask_sees_it(self):
    # 0.1 is not a float32; the mask, which is computed in float32, puts the
    # goal inside, so this must not pass.
    box = regions.parse_region_bounds('0.1,0.1:1,1')
    goal = (0.1, 0.1)
    assert bool(regions.contains(box, jnp.array(goal)))
    assert len(regions.problems_with(box, None, goal)) == 1
