"""Launchers and configs."""
