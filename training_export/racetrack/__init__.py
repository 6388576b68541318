"""The example environment: highway-env's racetrack as a car sees it."""
