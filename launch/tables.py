"""How measurements are printed: a Markdown table and `metric=value` lines."""

import os
import platform
from typing import Any, Mapping, Sequence

LP_RUN = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    'launch', 'lp_run.py')


def machine() -> str:
  """Returns processor and number of usable cores."""
  name = platform.processor() or platform.machine()
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as f:
      name = next((line.split(':')[1].strip() for line in f
                   if line.startswith('model name')), name)
  except OSError:
    pass  # Not Linux: the plain name will do.
  return f'{name}, {len(os.sched_getaffinity(0))} core(s)'


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Returns a Markdown table, which can be pasted into a document."""
  first, *rest = ('| ' + ' | '.join(str(cell) for cell in row) + ' |'
                  for row in (header, *rows))
  return '\n'.join([first, '|' + '---|' * len(header), *rest])


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
  """Prints a Markdown table."""
  print(markdown(header, rows))


def print_metrics(metrics: Mapping[str, float]) -> None:
  """Prints `name=value` lines."""
  for name, value in metrics.items():
    print(f'{name}={value:.6g}')
