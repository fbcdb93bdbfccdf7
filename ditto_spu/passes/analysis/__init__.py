"""Find the facts about a program's operations and values that are needed before formats are chosen."""
