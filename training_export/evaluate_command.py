"""python -m training_export evaluate: how a policy drives, as evidence for its promotion."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, REFUSED, progress, warn
from carla_mlflow.contract.seeds import CARD_FIRST, PROMOTION, PROMOTION_FIRST
from carla_mlflow.look import say_next, show
from training_export.evaluation.evaluate_flags import add_evaluate
from training_export.evaluation.flags import racetrack_conditions
from training_export.evaluation.latency_flags import (
    applied_latency,
    check_latency,
    latency_problem,
    policy_driver,
    read_delay,
)
from training_export.racetrack.conditions import Conditions

if TYPE_CHECKING:
    from carla_mlflow.contract.card import Card
    from carla_mlflow.inference.engine import Engine
    from training_export.evaluation.evidence_run import Figures


def evaluate(options: argparse.Namespace) -> int:
    problem = _usage(options)
    if problem:
        return int(options.usage(problem))
    from carla_mlflow.flavor.opening import open_engine

    if options.first_seed is None:
        options.first_seed = PROMOTION_FIRST if options.log else CARD_FIRST
    if options.log and options.episodes < Conditions.episodes:
        warn(f"{options.episodes} episodes are too few for a promotion, which asks for at least {Conditions.episodes}")
    check_latency(options)
    progress(f"loading {options.model}")
    with tempfile.TemporaryDirectory() as scratch:
        engine = open_engine(options.model, Path(scratch))
    print(f"{engine.card.name} {engine.card.version} {engine.digest}")
    return _in_own_env(engine, options) if options.env else _on_racetrack(engine, options)


def _usage(options: argparse.Namespace) -> str | None:
    """What is wrong with the combination of flags; None if nothing."""
    own = {"--env-config": options.env_config, "--success-key": options.success_key}
    own |= {"--collision-key": options.collision_key, "--baseline": options.baseline}
    ours = {"--traffic": options.traffic, "--duration": options.duration}
    given = [flag for flag, value in (ours if options.env else own).items() if value is not None]
    if given:
        where = "the racetrack, not for --env" if options.env else "an environment of your own: --env ID"
        return f"{given[0]} is for {where}"
    if options.env and options.success_key is None and options.collision_key is None:
        return "--env needs --success-key, --collision-key or both: what in `info` says how an episode went"
    return latency_problem(options)


def _on_racetrack(engine: Engine, options: argparse.Namespace) -> int:
    from carla_mlflow.flavor.runs import logging_run
    from training_export.evaluation.described import refresh_description
    from training_export.evaluation.evaluate import (
        check_racetrack,
        closed_loop,
        drive_beside,
        engine_driver,
        film,
        log_evaluation,
        run_episodes,
    )
    from training_export.racetrack.driving import summarise

    card = engine.card
    check_racetrack(card)
    conditions, delay = racetrack_conditions(options, card.training), read_delay(options, card)
    _warn_of_seeds(options, conditions)
    with policy_driver(engine, options, delay) as driver:
        episodes = run_episodes(driver, conditions, f"{card.name} {card.version}")
    latency = applied_latency(driver, options, delay)
    drives = drive_beside(episodes, conditions, latency.again() if latency else None)
    print(f"{_seeds(conditions)}, traffic {conditions.traffic}, {conditions.duration_s:g} s")
    if latency is not None:
        print(latency)
    print_figures({driver: summarise(driven) for driver, driven in drives.items()}, options.reward_margin)
    run_id = None
    if options.log:
        with logging_run(name=f"evaluate {card.name} {card.version}") as run_id:
            log_evaluation(engine, drives, conditions, options.reward_margin, latency)
        print(f"MLflow run {run_id}: figures, card, episodes.json, outcomes.png, trajectories.png, episode.gif")
        refresh_description(options.model)
    if options.gif:
        film(engine_driver(engine, latency), conditions.first_seed, conditions, options.gif)
        print(f"film: {options.gif}")
    _result(options, card, {name: summarise(driven) for name, driven in drives.items()}, conditions, run_id)
    if latency is not None:
        return DONE  # the card's figures are those without
    return _compare_with_card(closed_loop(episodes, conditions), card.metrics.get("closed_loop"))


def _warn_of_seeds(options: argparse.Namespace, conditions: Conditions) -> None:
    if options.log and conditions.first_seed < PROMOTION.start:
        warn(
            f"no promotion is judged on seeds below {PROMOTION.start:,}, which are those of cards' own figures: leave "
            "--first-seed away for evidence"
        )


def _in_own_env(engine: Engine, options: argparse.Namespace) -> int:
    from carla_mlflow.flavor.runs import logging_run
    from training_export.evaluation.described import refresh_description
    from training_export.evaluation.own_driving import Outcome, summarise
    from training_export.evaluation.own_env import open_own_env
    from training_export.evaluation.own_evaluation import check_seeds, evaluate_own, log_own
    from training_export.evaluation.own_film import film_first, why_not_filmed

    card, conditions = engine.card, Conditions(options.episodes, options.first_seed)
    check_seeds(card.training, conditions)
    own, outcome = open_own_env(options.env, options.env_config), Outcome(options.success_key, options.collision_key)
    if options.gif and (problem := why_not_filmed(own)):
        return int(options.usage(f"--gif: {own.name} can't be filmed: {problem}"))
    driven = evaluate_own(engine, own, conditions, outcome, options.baseline)
    print(f"{_seeds(conditions)} in {own.name}: {own.version}")
    print_figures({driver: summarise(episodes) for driver, episodes in driven.drives.items()}, options.reward_margin)
    run_id = no_film = None
    if driven.fallbacks:
        print(f"fallback  {driven.fallbacks:,} times, as the policy refused or failed; first: {driven.reason}")
    if options.log:
        flags = {name: getattr(options, name) for name in ("env_config", "baseline", "reward_margin")}
        with logging_run(name=f"evaluate {card.name} {card.version}") as run_id:
            log_own(engine, own, driven, conditions, outcome, flags)
        print(f"MLflow run {run_id}: figures, card, episodes.json, outcomes.png")
        refresh_description(options.model)
    if options.gif or options.log:
        no_film = film_first(engine, own, conditions.first_seed, outcome, options.gif, run_id)
        places = [str(options.gif) if options.gif else "", "episode.gif in the run" if run_id else ""]
        print(f"no film: {no_film}" if no_film else f"film: {' and '.join(filter(None, places))}")
    _result(options, card, {name: summarise(episodes) for name, episodes in driven.drives.items()}, conditions, run_id)
    return REFUSED if no_film and options.gif else DONE


def _result(
    options: argparse.Namespace, card: Card, figures: Mapping[str, Figures], conditions: Conditions, run_id: str | None
) -> None:
    """Prints the figures as JSON, if that is asked for, and the command that comes next."""
    if options.json:
        seeds = {"first_seed": conditions.first_seed, "episodes": conditions.episodes}
        show(True, "", {"policy": card.name, "version": card.version, **seeds, "figures": figures, "run_id": run_id})
    if not options.log:
        return
    say_next(f"carla-registry promote {shlex.quote(f'{card.name}@{card.version}')} --to production")


def _seeds(conditions: Conditions) -> str:
    return f"{conditions.episodes} seeds from {conditions.first_seed}"


def print_figures(figures: Mapping[str, Figures], reward_margin: float | None) -> None:
    """Prints the figures, and a note if they can't give a reward margin."""
    from training_export.evaluation.evidence_run import figures_table

    print(figures_table(figures))
    if reward_margin is None and figures["policy"]["reward_mean"] <= 0:
        print(
            "the policy's mean reward is 0 or less, so that the default margin, a share of it, can't be used for later "
            "versions: pass --reward-margin R, how much less reward per episode they may earn"
        )


def _compare_with_card(measured: dict[str, Any], stated: dict[str, Any] | None) -> int:
    from carla_mlflow.contract.figures import with_new_names

    conditions = ("env", "traffic", "duration_s", "first_seed", "episodes")
    stated = with_new_names(stated or {})
    if not stated or any(stated.get(key) != measured[key] for key in conditions):
        return DONE
    different = {key: (stated.get(key), value) for key, value in measured.items() if stated.get(key) != value}
    if not different:
        print("the card's figures: reproduced")
        return DONE
    for key, (was, now) in different.items():
        print(f"{key}: the card says {was}, measured here {now}", file=sys.stderr)
    return REFUSED


def add_evaluate_command(commands: Any) -> None:
    add_evaluate(commands).set_defaults(run=evaluate)
