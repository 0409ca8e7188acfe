"""Image files and arrays of pixels: decoding, colours, sizes."""
