"""Apache Beam, only here: runs plain functions on the pieces of a source."""
