# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis posteriors`: infer the latent choices behind an observation."""

import argparse
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from etalumis.cli import posterior_export
from etalumis.cli.arguments import whole_number
from etalumis.cli.workers import add_workers, started
from etalumis.config import Config, load
from etalumis.counting import counted
from etalumis.errors import DatasetError, InferenceError, NetworkError
from etalumis.inference import Posterior, SmcSettings, compilation, importance, rmh, smc
from etalumis.inference import posterior as posterior_file
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.conditioning import read_observations
from etalumis.inference.entry_selection import unmatched
from etalumis.inference.temperatures import inverse_temperatures
from etalumis.log_weights import effective_sample_size
from etalumis.ppx import Pool, Simulator
from etalumis.products import check_output_file
from etalumis.simulator.built import BuiltSimulator
from etalumis.typing import Array

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Infer the latent choices of the simulator run that produced an observation.
"""
_ENGINE_SUMMARIES = {
    "rmh": "one Markov chain with parallel tempering: slow, asymptotically exact; run at least two and check R-hat",
    "ic": "one job of weighted runs proposed by the trained network: fast; check the ESS and k-hat",
    "smc": "one job of sequential Monte Carlo: runs of the network, repaired by local moves; check the ESS",
    "importance": "one job of prior runs weighted by their likelihood: a check for weakly informative observations",
}
_EPILOG = """\
example, after `make demo`:
  D=results/demo
  etalumis posteriors rmh --config $D/config.yaml --simulator $D/simulator \\
      --observation $D/observation/observation.h5 --chain 0 --output chain-0.h5
  etalumis posteriors gather --input chain-0.h5 chain-1.h5 --output rmh.h5

An interrupted command resumes when it is called again; FILE.part holds the draws so far.
"""
_ENGINE_HELP = {
    "rmh": """\
One chain of random-walk Metropolis-Hastings (config section posteriors.rmh): change one draw, run the simulator again,
and accept or reject the result. The chain is asymptotically exact. Run at least two, with different --chain, gather
them, and check R-hat.
""",
    "ic": """\
One job of inference compilation (config section posteriors.ic): the trained network proposes every draw, and each run
is weighted by prior x likelihood / proposal. Gather jobs with different --job, and check the ESS and k-hat.
""",
    "smc": """\
One job of tempered sequential Monte Carlo (config section posteriors.smc): runs that the trained network proposes, or
prior runs, become a population of traces. In stages, the likelihood is raised to its full power while the population is
resampled and moved; an interrupted job resumes at its last stage. Use it if the proposals of the network are too wide
for IC (k-hat above 0.7). Gather jobs with different --job, and check the ESS.
""",
    "importance": """\
One job of importance sampling from the prior (config section posteriors.importance): runs of the simulator, weighted
by the likelihood. Use it to check the other engines if the observation is weakly informative; otherwise nearly all
weights are negligible.
""",
}
_ENGINE_OPTIONS = {
    "rmh": "--chain 0",
    "ic": "--network $D/network --job 0",
    "smc": "--network $D/network --job 0",
    "importance": "--runs 1000",
}
_ENGINE_EPILOG = """\
example, after `make demo`:
  D=results/demo
  etalumis posteriors {name} --config $D/config.yaml --simulator $D/simulator \\
      --observation $D/observation/observation.h5 {options} --output {name}-0.h5

An interrupted command resumes when it is called again; FILE.part holds the draws so far.
"""


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "posteriors",
        help="infer the latent choices behind an observation: rmh, ic, smc, importance, gather, export",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    chain = _engine(actions, "rmh")
    chain.add_argument("--chain", type=whole_number, required=True, metavar="K", help="number of the chain, from 0")
    add_workers(chain)
    job = _engine(actions, "ic")
    job.add_argument(
        "--network", type=Path, metavar="DIR", help="folder of the trained network (default: network.from)"
    )
    job.add_argument("--job", type=whole_number, required=True, metavar="K", help="number of the job, from 0")
    job.add_argument(
        "--scopes",
        choices=("first-shot", "prior"),
        default="first-shot",
        help="source of the draws in rejection loops: the network or the simulator (default: %(default)s)",
    )
    population = _engine(actions, "smc")
    population.add_argument(
        "--network", type=Path, metavar="DIR",
        help="folder of the trained network (default: network.from); required unless posteriors.smc.start is prior",
    )  # fmt: skip
    population.add_argument("--job", type=whole_number, required=True, metavar="K", help="number of the job, from 0")
    prior = _engine(actions, "importance")
    prior.add_argument("--job", type=whole_number, default=0, metavar="K", help="number of the job (default: 0)")
    prior.add_argument(
        "--runs", type=whole_number, metavar="N", help="number of simulator runs (default: posteriors.importance.runs)"
    )
    add_workers(prior)
    text = "join the chains, or the jobs, of one engine into one file"
    gather = actions.add_parser(
        "gather",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. All must have the same observation, simulator and network.",
        epilog="example:\n  etalumis posteriors gather --input chain-0.h5 chain-1.h5 --output rmh.h5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    gather.add_argument("--input", type=Path, nargs="+", required=True, metavar="FILE", help="chains or jobs")
    _add_output(gather)
    posterior_export.register(actions)


def _engine(actions: Any, name: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=_ENGINE_SUMMARIES[name],
        description=_ENGINE_HELP[name],
        epilog=_ENGINE_EPILOG.format(name=name, options=_ENGINE_OPTIONS[name]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option, metavar, about in (
        ("--config", "FILE", "configuration"),
        ("--simulator", "DIR", "folder of the simulator, from `etalumis simulator build` or `couple`"),
    ):
        parser.add_argument(option, type=Path, required=True, metavar=metavar, help=about)
    parser.add_argument(
        "--observation", type=Path, nargs="+", action="extend", required=True, metavar="FILE",
        help="written by `etalumis traces observation`; if there are several, each has other observe statements",
    )  # fmt: skip
    parser.add_argument(
        "--unconditioned", nargs="+", action="extend", default=[], metavar="NAME",
        help="observe statements of the simulator on which the posterior is not conditioned",
    )  # fmt: skip
    _add_output(parser)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="posterior file to write")
    parser.add_argument("--force", action="store_true", help="overwrite FILE even if it is another finished product")


def run(args: argparse.Namespace) -> int:
    """Run an engine, or gather or export its posteriors."""
    if args.action == "gather":
        _gather(args)
    elif args.action == "export":
        posterior_export.export(args)
    else:
        _ENGINES[args.action](args)
    logger.info("wrote %s", args.output)
    return 0


def _gather(args: argparse.Namespace) -> None:
    check_output_file(args.output, posterior_file.FORMAT, force=True)  # overwriting is checked below
    if args.output.resolve() in [path.resolve() for path in args.input]:
        raise InferenceError(f"{args.output}: is also an input; name another output")
    whole = Posterior.concatenate([Posterior.load(path) for path in args.input])
    _check_output(args, whole.engine, whole.info.get("seed"), whole.chain.tolist(), whole.info)
    whole.save(args.output)


def _check_output(
    args: argparse.Namespace,
    engine: str,
    seed: int | None,
    chains: Iterable[int],
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Check that the output can be written, and is no posterior of another engine, seed, chain, job or origin."""
    check_output_file(
        args.output, posterior_file.FORMAT, force=args.force,
        difference=lambda path: Posterior.load(path).difference(engine, seed, chains, origin),
    )  # fmt: skip


class _Job:
    """Inputs of an engine: configuration, observations and simulator; its output and provenance."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.config: Config = load(args.config)
        self._check_output()
        self.conditioning = read_observations(args.observation, args.unconditioned)
        self.built = BuiltSimulator(args.simulator, self.config.simulator)
        self.conditioning.require_simulator(self.built)

    def _check_output(self, origin: Mapping[str, Any] | None = None) -> None:
        number = getattr(self.args, "chain", getattr(self.args, "job", 0))
        _check_output(self.args, self.args.action, self.config.run.seed, [number], origin)

    @property
    def observations(self) -> dict[str, Array | None]:
        """Name of each observe statement -> value, or None if it is left out."""
        return self.conditioning.values

    def sample(
        self, settings: dict[str, Any], engine: Callable[[Simulator | Pool, Checkpoint], Posterior]
    ) -> Posterior:
        """Start or resume an engine, and write its posterior with its provenance."""
        provenance = self.conditioning.provenance(self.built)
        self._check_output({**provenance, **settings})
        entries = self.config.posteriors.entries
        if entries:
            settings = {**settings, "entries": entries}
        identity = {**provenance, "seed": self.config.run.seed, "settings": settings}
        logger.info("conditioned on %s", self.conditioning)
        checkpoint = Checkpoint(Path(f"{self.args.output}.part"), identity)
        workers, pin = getattr(self.args, "workers", 1), getattr(self.args, "pin", False)
        with started(self.built, workers, pin) as simulator:
            posterior = engine(simulator, checkpoint)
        posterior.info.update(provenance, model=simulator.name, observation=self.conditioning.source)
        if "network_digest" in settings:
            posterior.info["network_digest"] = settings["network_digest"]
        posterior.truth = self.conditioning.truth
        if posterior.entries is not None:
            for pattern in unmatched(posterior.entries.addresses, entries):
                logger.warning("posteriors.entries: no controlled draw has an address or name like %r", pattern)
        with checkpoint.explaining_loss(len(posterior)):
            posterior.save(self.args.output)
        checkpoint.remove()
        return posterior


def _rmh(args: argparse.Namespace) -> None:
    job = _Job(args)
    section = job.config.posteriors.rmh

    def engine(simulator: Simulator | Pool, checkpoint: Checkpoint) -> Posterior:
        return rmh(
            simulator,
            job.observations,
            runs=section.runs,
            seed=job.config.run.seed,
            chain=args.chain,
            burn_in=section.burn_in,
            thin=section.thin,
            betas=inverse_temperatures(section.temperatures, section.hottest_beta),
            retries=job.config.simulator.retries,
            entries=job.config.posteriors.entries,
            checkpoint=checkpoint,
        )

    posterior = job.sample(
        {"engine": "rmh", "chain": args.chain, **section.model_dump(mode="json", exclude={"chains"})}, engine
    )
    logger.info(
        "rmh chain %d: %.1f simulator runs/s, acceptance rate %.2f, %.1f %% of the proposals lost to the scope rule",
        args.chain, posterior.info["runs_per_s"], posterior.info["acceptance_overall"],
        100 * posterior.info["lost_share"],
    )  # fmt: skip
    if section.temperatures > 1:
        logger.info(
            "acceptance rates of swaps, coldest pair first: %s; %d round trips between the cold replica and the prior",
            " ".join(f"{rate:.2f}" for rate in posterior.info["swap_acceptance"]), posterior.info["round_trips"],
        )  # fmt: skip


def _load_network(job: _Job) -> tuple[Any, str]:
    """Return the trained network of --network or `network.from`, and the digest of its tensors."""
    import torch  # a second to import: only where it is needed

    from etalumis.network import checkpoint as network_file

    torch.set_num_threads(1)
    configured = job.config.network.from_
    if job.args.network is None and configured is None:
        raise NetworkError(
            f"{job.args.config}: no trained network is given; give its folder with --network, or set network.from"
        )
    folder = Path(configured or "") if job.args.network is None else job.args.network
    key = "network.from: " if configured is not None and folder == Path(configured) else ""
    try:
        network = network_file.load(folder)
        digest = network_file.read_manifest(folder)["tensors_sha256"]
    except (NetworkError, DatasetError) as error:
        raise NetworkError(f"{key}{error}") from error
    misfit = job.built.misfit(network.layers.simulator_build_id, network.layers.config_digest)
    if misfit is not None:
        remedy = (
            "name a network of this simulator, or remove the key to train one" if key else "train the network again"
        )
        raise NetworkError(f"{key}{folder}: trained on another simulator: {misfit}; {remedy}.")
    return network, digest


def _ic(args: argparse.Namespace) -> None:
    job = _Job(args)
    section = job.config.posteriors.ic
    network, network_digest = _load_network(job)

    def engine(simulator: Simulator | Pool, checkpoint: Checkpoint) -> Posterior:
        return compilation(
            simulator,
            job.observations,
            network,
            runs=section.runs,
            seed=job.config.run.seed,
            job=args.job,
            scopes=args.scopes,
            replays=section.replays,
            shared_replays=section.shared_replays,
            in_flight=section.in_flight,
            retries=job.config.simulator.retries,
            entries=job.config.posteriors.entries,
            checkpoint=checkpoint,
        )

    settings = {"engine": "ic", "job": args.job, "scopes": args.scopes, "network_digest": network_digest}
    posterior = job.sample({**settings, **section.model_dump(mode="json", exclude={"jobs", "in_flight"})}, engine)
    logger.info(
        "ic job %d: %.1f weighted runs/s, %.1f %% lost to second repetitions, %.2f %% of the addresses unknown",
        args.job, posterior.info["runs_per_s"], 100 * posterior.info["lost_share"],
        100 * posterior.info["unknown_address_fraction"],
    )  # fmt: skip
    _log_weights(posterior)


def _smc(args: argparse.Namespace) -> None:
    job = _Job(args)
    section = job.config.posteriors.smc
    given = section.model_dump(mode="json", exclude={"jobs", "in_flight"})
    if section.start == "prior" and args.network is not None:
        raise InferenceError("--network has no effect with posteriors.smc.start: prior; leave one of them out")
    network, origin = None, {}
    if section.start == "network":
        if args.network is None and job.config.network.from_ is None:
            raise InferenceError(
                f"{args.config}: posteriors.smc.start is network, but no --network is given; give the folder of a "
                "trained network, set network.from, or set posteriors.smc.start to prior"
            )
        network, origin["network_digest"] = _load_network(job)

    def engine(simulator: Simulator | Pool, checkpoint: Checkpoint) -> Posterior:
        return smc(
            simulator,
            job.observations,
            network,
            seed=job.config.run.seed,
            job=args.job,
            settings=SmcSettings(**{name: given[name] for name in SmcSettings._fields}),
            in_flight=section.in_flight,
            retries=job.config.simulator.retries,
            entries=job.config.posteriors.entries,
            checkpoint=checkpoint,
        )

    posterior = job.sample({"engine": "smc", "job": args.job, **origin, **given}, engine)
    logger.info(
        "smc job %d: %s, %d of %d lineages left, log evidence %.3f",
        args.job, counted(len(posterior.info["stages"]), "stage"), posterior.info["stages"][-1]["lineages"],
        section.starts, posterior.log_evidence,
    )  # fmt: skip


def _importance(args: argparse.Namespace) -> None:
    job = _Job(args)
    runs = job.config.posteriors.importance.runs if args.runs is None else args.runs

    def engine(simulator: Simulator | Pool, checkpoint: Checkpoint) -> Posterior:
        return importance(
            simulator,
            job.observations,
            runs=runs,
            seed=job.config.run.seed,
            job=args.job,
            retries=job.config.simulator.retries,
            entries=job.config.posteriors.entries,
            checkpoint=checkpoint,
        )

    posterior = job.sample({"engine": "importance", "job": args.job, "runs": runs}, engine)
    logger.info("importance job %d: %.1f simulator runs/s", args.job, posterior.info["runs_per_s"])
    _log_weights(posterior)


def _log_weights(posterior: Posterior) -> None:
    """Log the effective sample size: the number of weighted draws alone says nothing."""
    if posterior.info["zero_weights"] == len(posterior):
        logger.warning(
            "all %d draws have weight zero: no run could have produced the observation, so the file says nothing about "
            "the posterior; take more runs, or check that the observation belongs to this simulator",
            len(posterior),
        )
        return
    logger.info(
        "effective sample size %.1f of %s, %d of weight zero",
        effective_sample_size(posterior.weight), counted(len(posterior), "draw"), posterior.info["zero_weights"],
    )  # fmt: skip


_ENGINES: dict[str, Callable[[argparse.Namespace], None]] = {
    "rmh": _rmh,
    "ic": _ic,
    "smc": _smc,
    "importance": _importance,
}
