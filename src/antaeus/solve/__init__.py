"""Stage two: tasks to attempts."""
