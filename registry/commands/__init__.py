"""carla-registry's subcommands."""
