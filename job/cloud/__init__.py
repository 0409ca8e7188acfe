"""Google Cloud: the same job on Dataflow and Vertex AI."""
