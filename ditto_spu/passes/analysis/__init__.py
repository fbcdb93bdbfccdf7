"""What is known of a program's operations and values before formats are chosen."""
