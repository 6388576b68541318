"""The same server as a process of a cluster, or under another ASGI server."""
