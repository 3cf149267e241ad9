"""What goes back to the caller, independent of the server that sends it."""
