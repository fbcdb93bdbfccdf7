"""Networks: their table, the time they predict, and a relay that emulates one on this machine."""
