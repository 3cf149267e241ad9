"""What the outside can see of the service's work: metrics, one log line for every decision, request ids."""
