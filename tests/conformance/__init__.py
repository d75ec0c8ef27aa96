"""Every operation, written once and run on both drivers over every kind of stream."""
