"""How long an action is under way in a closed loop, in simulated time: a constant, a trace, or what is measured."""
