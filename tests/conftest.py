"""Fixtures shared by all tests."""

import os

# Before any test module imports JAX or TensorFlow.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

from launch import native

native.preload()

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# The same examples in every run; --hypothesis-profile=default draws new ones.
hypothesis.settings.register_profile('repeatable', derandomize=True,
                                     database=None)
hypothesis.settings.load_profile('repeatable')


@pytest.fixture(scope='class')
def quick_compile():
  """Compiles with few optimizations: what is small takes longer to compile."""
  before = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', before)
