"""Preset files: one complete YAML per suite, small overlays per method."""
