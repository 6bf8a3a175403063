"""Fixtures shared by all tests."""

import jax
import pytest


@pytest.fixture(scope='module')
def quick_compile():
  """Compiles with few optimizations: what is small takes longer to compile."""
  before = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', before)
