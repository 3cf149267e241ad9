"""What Gatekey's own API takes and gives, as models: views parse and render with them, and ``/openapi.json`` is made of them."""
