"""How good a fitted model is, in nats. Asks a model for what it can do by its fields, never by its class."""
