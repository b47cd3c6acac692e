"""The quality of a fitted model, in nats. It asks for the fields that a model fills, never for its class."""
