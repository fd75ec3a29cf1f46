"""What every other part agrees on: typed values, table contracts, ports and settings; needs only pydantic and Arrow."""
