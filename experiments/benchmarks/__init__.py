"""Measurements of speed, memory and safety, each with its command and its machine."""
