"""Apache Beam, only here: calls plain functions on the pieces of a source, on any engine."""
