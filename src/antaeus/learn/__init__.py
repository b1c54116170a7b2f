"""Stage four: verdicts to lessons. The formulas that touch tensors are the engine's (`engine/losses.py`)."""
