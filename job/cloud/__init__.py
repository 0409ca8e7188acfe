"""The whole job in Google Cloud: shards made on Dataflow, the fit on Vertex AI."""
