"""Acquiring models and data: sources, archives, formats, conversion. What arrives is checked and never run."""
