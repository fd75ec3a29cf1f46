"""Releases: every build as a version of the registry, its verdict, and the one pointer that says what is live."""
