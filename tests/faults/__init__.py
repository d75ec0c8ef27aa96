"""Every operation under every fault of the network: what is promised, and that it holds."""
