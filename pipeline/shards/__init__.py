"""The contract with `job`: blocks of images in shard files, the manifest that makes them a set."""
