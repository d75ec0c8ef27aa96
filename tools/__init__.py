"""What people who work on pynetwork run: measurements and checks. Never part of the installed package."""
