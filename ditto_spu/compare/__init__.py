"""Other ways to run the same function, beside ours: plaintext, emulation and PUMA on stock SPU."""
