"""Tables with an image in each row: Parquet and Arrow."""
