"""Learners (how a model is fitted) and the loop that drives any of them. Nothing here knows a model family."""
