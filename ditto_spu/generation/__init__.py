"""Generate text over a key/value cache that stays in shares."""
