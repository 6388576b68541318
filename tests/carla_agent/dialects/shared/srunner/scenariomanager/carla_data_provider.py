"""What agents ask of scenario_runner's CarlaDataProvider."""


class CarlaDataProvider:
    world = None
    hero = None

    @classmethod
    def get_world(cls):
        return cls.world

    @classmethod
    def get_map(cls):
        return cls.world.get_map()

    @classmethod
    def get_hero_actor(cls):
        return cls.hero
