"""What travels between hosts: messages, certificates, keys, channels, agreement."""
