"""Lossless codes from models: entropy coding, distributions as codes, bits-back, and the file that holds a message."""
