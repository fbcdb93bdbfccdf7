"""Serve a model on the client's own machine by the interface of OpenAI, which most tools speak."""
