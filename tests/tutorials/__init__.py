"""The tutorials: each program is run as its page says, and each page shows the program that was run."""
