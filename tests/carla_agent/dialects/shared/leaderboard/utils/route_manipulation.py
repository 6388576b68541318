"""Selects the points of a route that an agent gets: where the option changes, every so many metres, and the last."""


def downsample_route(route, sample_factor):
    chosen, since = [], 0.0
    for index, (place, option) in enumerate(route):
        since += place.location.distance(route[max(index - 1, 0)][0].location)
        if index in {0, len(route) - 1} or option != route[index - 1][1] or since > sample_factor:
            chosen.append(index)
            since = 0.0
    return chosen
