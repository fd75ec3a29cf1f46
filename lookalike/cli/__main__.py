"""`python -m lookalike.cli`: the same as the `lookalike` command, for a process that starts another."""

from lookalike.cli.main import main

if __name__ == "__main__":
    main()
