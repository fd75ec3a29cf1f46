"""Judges: suites on the tables, the gate that turns measurements into a verdict, and the evidence it leaves."""
