"""A car's side of the HTTP interface, synchronous and asynchronous."""
