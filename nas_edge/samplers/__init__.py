"""Samplers: which candidate to try next, given those that a study holds. Ours and Optuna's, each by name."""
