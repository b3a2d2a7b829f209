"""Preference optimization of generative models, with the audits that belong to it."""

__version__ = "0.1.0"
