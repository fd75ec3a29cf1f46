"""The straight line: one module per arrow, each joining the engines and the domain into one resumable step.

The command line, the schedules and the end-to-end tests call these and nothing below, so that a step means the same
by hand, at night and in a test.
"""
