"""The `lookalike` command: one module per group of verbs, each verb a thin call of one function of `lookalike.line`."""
