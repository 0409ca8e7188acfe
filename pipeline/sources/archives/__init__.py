"""Archives of image files, which are read without unpacking them to disk: tar and zip."""
