"""Connects hosts: messages, certificates, keys, channels, and the agreement between participants."""
