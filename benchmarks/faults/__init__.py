"""What callers see while a store fails, and how fast a revoked key stops working; printed, and kept in docs/reliability.md."""
