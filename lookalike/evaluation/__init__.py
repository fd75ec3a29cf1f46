"""Measures of encoders and releases, recomputed from vectors and labels; no figure of a candidate is believed."""
