"""`make bench`: Gatekey beside what people would use instead of it, in one run on one machine; and `make profile`."""
