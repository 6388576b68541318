"""What agents ask of scenario_runner's GameTime."""


class GameTime:
    frame = 0
    seconds = 0.0

    @classmethod
    def get_time(cls):
        return cls.seconds

    @classmethod
    def get_frame(cls):
        return cls.frame
