"""Everything at once for as long as you like: a gateway and its controllers at work, while processes and links die."""
