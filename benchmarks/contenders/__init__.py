"""Small applications that check an API key, each set up as its own documentation recommends; `make bench` serves them."""
