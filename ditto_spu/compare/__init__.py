"""Run the same function in other ways beside ours: plaintext, emulation and PUMA on stock SPU."""
