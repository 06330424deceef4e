"""The prior: its fit, its two flows, their distillation."""
