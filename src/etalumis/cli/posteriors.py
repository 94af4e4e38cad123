# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""`etalumis posteriors`: infer the latent choices behind an observation."""

import argparse
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from etalumis import processor
from etalumis.cli import posterior_export
from etalumis.cli.arguments import add_scopes, whole_number
from etalumis.cli.workers import add_workers, started
from etalumis.config import Config, load
from etalumis.counting import counted
from etalumis.engines import ENGINES, Engine, EngineInputs
from etalumis.errors import InferenceError
from etalumis.inference import Posterior
from etalumis.inference import posterior as posterior_file
from etalumis.inference.chain import NETWORK_MOVES
from etalumis.inference.checkpoint import Checkpoint
from etalumis.inference.conditioning import read_observations
from etalumis.inference.entry_selection import unmatched
from etalumis.log_weights import effective_sample_size
from etalumis.products import check_output_file
from etalumis.simulator.built import BuiltSimulator

logger = logging.getLogger(__name__)

_DESCRIPTION = """\
Infer the latent choices of the simulator run that produced an observation.
"""
_ENGINE_SUMMARIES = {
    "rmh": "one Markov chain with parallel tempering: slow, asymptotically exact; run at least two and check R-hat",
    "network_rmh": "one Markov chain that also moves to runs of the trained network; check R-hat over two or more",
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
    "network_rmh": """\
One Markov chain (config section posteriors.network_rmh) of steps of single draws, as in rmh, and of moves to runs that
the trained network proposes: the network finds the regions of the posterior, the steps cover them, and the chain is
asymptotically exact for any network. Run at least two, with different --chain, gather them, and check R-hat.
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
    "network_rmh": "--network $D/network --chain 0",
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
        help="infer the latent choices behind an observation: rmh, network_rmh, ic, smc, importance, gather, export",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    chain = _engine(actions, "rmh")
    _add_chain(chain)
    add_workers(chain)
    guided = _engine(actions, "network_rmh")
    _add_network(guided)
    _add_chain(guided)
    job = _engine(actions, "ic")
    _add_network(job)
    job.add_argument("--job", type=whole_number, required=True, metavar="K", help="number of the job, from 0")
    add_scopes(job)
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


def _add_chain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chain", type=whole_number, required=True, metavar="K", help="number of the chain, from 0")


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--network", type=Path, metavar="DIR", help="folder of the trained network (default: network.from)"
    )


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
        _infer(args)
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

    @property
    def number(self) -> int:
        """Number of the chain or job."""
        return int(getattr(self.args, "chain", getattr(self.args, "job", 0)))

    def _check_output(self, origin: Mapping[str, Any] | None = None) -> None:
        _check_output(self.args, self.args.action, self.config.run.seed, [self.number], origin)

    def sample(self, engine: Engine) -> Posterior:
        """Start or resume an engine, and write its posterior with its provenance."""
        provenance, entries = self.conditioning.provenance(self.built), self.config.posteriors.entries
        # one more chain or job does not change those that exist
        own = {key: value for key, value in engine.settings.items() if key != "chains"}
        settings = {"engine": engine.name, "number": self.number, **own}
        self._check_output({**provenance, **settings})
        identity = {**provenance, "seed": self.config.run.seed, "settings": settings}
        logger.info("conditioned on %s", self.conditioning)
        checkpoint = Checkpoint(Path(f"{self.args.output}.part"), identity)
        workers, pin = getattr(self.args, "workers", 1), getattr(self.args, "pin", False)
        with started(self.built, workers, pin) as simulator:
            posterior = engine.sample(
                simulator, self.conditioning.values, seed=self.config.run.seed, checkpoint=checkpoint,
                number=self.number,
            )  # fmt: skip
        # the processor is not in `provenance`: a job may be resumed on another machine
        about = {"model": simulator.name, "observation": self.conditioning.source, "processor": processor.model()}
        posterior.info.update(provenance | about)
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


def _infer(args: argparse.Namespace) -> None:
    """Run an engine, and log how it went."""
    job = _Job(args)
    network = getattr(args, "network", None)
    if args.action == "smc" and job.config.posteriors.smc.start == "prior" and network is not None:
        raise InferenceError("--network has no effect with posteriors.smc.start: prior; leave one of them out")
    inputs = EngineInputs(
        job.config,
        job.built,
        runs=getattr(args, "runs", None),
        network=network,
        scopes=getattr(args, "scopes", "auto"),
        entries=tuple(job.config.posteriors.entries),
    )
    _REPORTS[args.action](job.sample(ENGINES[args.action](inputs)), job.number)


def _report_rmh(posterior: Posterior, chain: int) -> None:
    logger.info(
        "rmh chain %d: %.1f simulator runs/s, acceptance rate %.2f, %.1f %% of the proposals lost to the scope rule",
        chain, posterior.info["runs_per_s"], posterior.info["acceptance_overall"], 100 * posterior.info["lost_share"],
    )  # fmt: skip
    if "swap_acceptance" in posterior.info:
        logger.info(
            "acceptance rates of swaps, coldest pair first: %s; %d round trips between the cold replica and the prior",
            " ".join(f"{rate:.2f}" for rate in posterior.info["swap_acceptance"]), posterior.info["round_trips"],
        )  # fmt: skip


def _report_network_rmh(posterior: Posterior, chain: int) -> None:
    moves = posterior.info["acceptance"].get(NETWORK_MOVES, {"proposed": 0, "accepted": 0.0})
    betas = " ".join(f"{beta:.2g}" for beta in posterior.info["inverse_temperatures"])
    logger.info(
        "network_rmh chain %d: %.1f simulator runs/s; inverse temperatures %s; at temperature 1, %.0f %% of %d "
        "comparisons with runs of the network changed the state",
        chain, posterior.info["runs_per_s"], betas, 100 * moves["accepted"], moves["proposed"],
    )  # fmt: skip


def _report_ic(posterior: Posterior, job: int) -> None:
    logger.info(
        "ic job %d: %.1f weighted runs/s, %.1f %% lost to second repetitions, %.2f %% of the addresses unknown",
        job, posterior.info["runs_per_s"], 100 * posterior.info["lost_share"],
        100 * posterior.info["unknown_address_fraction"],
    )  # fmt: skip
    _log_weights(posterior)


def _report_smc(posterior: Posterior, job: int) -> None:
    strata = posterior.info["strata"]
    for part in strata:
        logger.info(
            "smc job %d  %s%s, %d lineages left, log evidence %.3f",
            job, f"{part['stratum']}: " if part["stratum"] else "", counted(len(part["stages"]), "stage"),
            part["stages"][-1]["lineages"], part["log_evidence"],
        )  # fmt: skip
    if len(strata) > 1:
        logger.info("smc job %d: log evidence %.3f", job, posterior.log_evidence)


def _report_importance(posterior: Posterior, job: int) -> None:
    logger.info("importance job %d: %.1f simulator runs/s", job, posterior.info["runs_per_s"])
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


_REPORTS: dict[str, Callable[[Posterior, int], None]] = {
    "rmh": _report_rmh,
    "network_rmh": _report_network_rmh,
    "ic": _report_ic,
    "smc": _report_smc,
    "importance": _report_importance,
}
