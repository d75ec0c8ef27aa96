"""Our sides of each workload: the public interface, as any user would use it, with its defaults."""
