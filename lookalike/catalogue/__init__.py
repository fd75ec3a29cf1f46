"""Catalogue rules: where products come from (icon packages, a user's files, synthesis) and which rows are accepted."""
