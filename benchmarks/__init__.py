"""Commands that measure; each prints a table and `metric=value` lines."""
