"""What a network costs and what it is worth: accuracy, multiply-adds, bytes, memory, latency."""
