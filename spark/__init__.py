"""The batch side of the line on Spark and Delta: session, ingest (bronze, silver, refused) and embedding."""
