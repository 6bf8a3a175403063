"""What is said of settings that cannot be run."""

from typing import List


class ConfigError(ValueError):
  """Everything that is wrong with a configuration, one problem a line."""

  def __init__(self, problems: List[str]):
    self.problems = list(problems)
    lines = ''.join(f'\n  - {p}' for p in self.problems)
    super().__init__(f'{len(self.problems)} problem(s) in the settings:{lines}')
