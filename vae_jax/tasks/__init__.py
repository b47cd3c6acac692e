"""Tasks for a fitted model: reconstruct, interpolate, decode, cluster, find outliers. Functions take one example."""
