"""What a policy observes in CARLA: each observer makes named fields of the card from carla's own objects."""
