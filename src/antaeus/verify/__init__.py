"""Stage three: attempts to verdicts. Each verifier is a function from a group to one verdict an attempt, and names its source."""
