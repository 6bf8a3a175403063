"""Geometry of representations against cases worked out by hand."""

import numpy as np

from launch import embeddings


def test_cosines_of_known_angles():
  vectors = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [-4.0, 0.0]])
  np.testing.assert_allclose(
      embeddings.cosines(vectors, np.array([5.0, 0.0])),
      [1.0, np.sqrt(0.5), 0.0, -1.0], atol=1e-12)
  assert embeddings.cosines(np.zeros((1, 2)), np.ones(2)).tolist() == [0.0]


def test_principal_components_are_those_of_the_covariance():
  rng = np.random.default_rng(0)
  vectors = rng.normal(size=(200, 5)) * [3.0, 1.0, 0.5, 2.0, 0.1] + 7.0
  projection = embeddings.principal_components(vectors, 3)
  values, axes = np.linalg.eigh(np.cov(vectors.T, ddof=0))
  np.testing.assert_allclose(
      projection.shares, values[::-1][:3] / values.sum(), rtol=1e-9)
  by_hand = (vectors - vectors.mean(axis=0)) @ axes[:, ::-1][:, :3]
  # An axis may point either way.
  signs = np.sign(np.sum(by_hand * projection.points, axis=0))
  np.testing.assert_allclose(projection.points, signs * by_hand, atol=1e-9)


def test_the_sphere_keeps_the_cosine_with_the_goal():
  rng = np.random.default_rng(1)
  vectors, goal = rng.normal(size=(50, 6)), rng.normal(size=6)
  points = embeddings.goal_sphere(vectors, goal)
  assert points.shape == (50, 3)
  np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 1.0, rtol=1e-6)
  np.testing.assert_allclose(
      points[:, 2], embeddings.cosines(vectors, goal), atol=1e-9)


def test_the_sphere_is_exact_in_three_dimensions():
  rng = np.random.default_rng(2)
  vectors, goal = rng.normal(size=(30, 3)), np.array([0.0, 0.0, 2.0])
  points = embeddings.goal_sphere(vectors, goal)
  unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
  # A turn or a mirror about the pole changes no angle between any two.
  np.testing.assert_allclose(points @ points.T, unit @ unit.T, atol=1e-6)


def test_who_is_the_goal_lies_at_the_pole():
  goal = np.array([1.0, 2.0, 3.0, 4.0])
  vectors = np.stack([5.0 * goal, -goal, [4.0, -3.0, 2.0, -1.0],
                      [1.0, 0.0, 0.0, 0.0]])
  points = embeddings.goal_sphere(vectors, goal)
  np.testing.assert_allclose(points[0], [0, 0, 1], atol=1e-6)
  np.testing.assert_allclose(points[1], [0, 0, -1], atol=1e-6)


def test_path_lengths_go_around_walls():
  walls = np.array([[0, 0, 0, 0],
                    [0, 1, 1, 0],
                    [0, 1, 0, 1]], bool)
  inf = np.inf
  assert embeddings.path_lengths(walls, (0, 3)).tolist() == [
      [3, 2, 1, 0], [4, inf, inf, 1], [5, inf, inf, inf]]
