"""Another version acts on what this server is asked, in a process of its own, and is compared."""
