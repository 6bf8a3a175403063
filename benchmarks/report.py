"""Re-exported for benchmarks."""

from launch.tables import LP_RUN, machine, print_metrics, print_table

__all__ = ['LP_RUN', 'machine', 'print_metrics', 'print_table']
