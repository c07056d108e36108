"""What is asked for and what was measured: values, their identity, and the database that keeps them."""
