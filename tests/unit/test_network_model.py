# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The token-parallel network against a plain one that walks through each trace."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_batches import PRIORS, SMALL, layer_table, random_batch
from torch import Tensor

from etalumis.config import NetworkConfig
from etalumis.distributions import Categorical, Normal, Uniform
from etalumis.errors import NetworkError
from etalumis.inference.proposal_controller import Proposal
from etalumis.layers import LayerRow, LayerTable, ObservationLayout, TagInput
from etalumis.network import ProposalNetwork
from etalumis.network.independent_rows import affine, widened
from etalumis.network.minibatch_plan import plan_minibatch
from etalumis.network.proposal_densities import log_density
from etalumis.network.standardise import FAMILIES, standardise
from etalumis.traces.reading.batch import Minibatch
from etalumis.training.evaluate import log_proposals

LAYERS = layer_table(PRIORS, 3, (6,))
LENGTHS = [5, 1, 0, 12, 7, 3]


def network_of(layers: LayerTable = LAYERS, config: NetworkConfig = SMALL) -> ProposalNetwork:
    network = ProposalNetwork(layers, config, 5)
    with torch.no_grad():  # away from the start, where the outputs hardly depend on the inputs
        for name, table in network.tables.items():
            if name.endswith("out_weight"):
                table.mul_(10.0)
    return network


def reference(network: ProposalNetwork, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
    """log q of every known token, one after the other with plain modules; and the tables that gradients reach."""
    tables = {name: table.detach().clone().requires_grad_() for name, table in network.tables.items()}
    embedded = network.observation(torch.from_numpy(batch.observation))
    log_q = []
    for trace in range(len(batch)):
        state, past = None, torch.zeros(network.config.sample_embedding + network.config.address_embedding)
        for token in range(batch.offset[trace], batch.offset[trace + 1]):
            layer = int(batch.layer[token])
            if layer < 0:
                continue
            group = network.grouping.groups[network.grouping.group_of[layer]]
            row = network.grouping.row_of[layer]
            t = {
                name.removeprefix(f"{group.key}_"): tables[name][row]
                for name in tables
                if name.startswith(f"{group.key}_")
            }
            address = tables["address"][layer]
            output, state = network.lstm(torch.cat([embedded[trace], past, address])[None], state)
            inner = torch.relu(output[0] @ t["hidden_weight"] + t["hidden_bias"])
            raw = inner @ t["out_weight"] + t["out_bias"]
            one = slice(token, token + 1)
            form = standardise(group.kind, batch.value[one], batch.low[one], batch.high[one], batch.parameters[one])
            x, context, jacobian, feature = (
                torch.from_numpy(v).float() for v in (form.x, form.context, form.log_jacobian, form.feature)
            )
            log_q.append(log_density(group.kind, raw[None], x, context) + jacobian)
            weight = t["sample_weight"]
            if group.kind == "Categorical":
                value = weight[int(feature)]
            else:
                scaled = feature if FAMILIES[group.kind] == "unit" else 2 * torch.special.ndtr(feature) - 1
                waves = [
                    wave(k * math.pi * scaled)
                    for wave in (torch.sin, torch.cos)
                    for k in range(1, 1 + network.config.value_frequencies)
                ]
                value = torch.cat([feature, *waves]) @ weight
            past = torch.cat([value + t["sample_bias"], address])
    return torch.cat(log_q), tables


@pytest.mark.parametrize(("layers_of_lstm", "frequencies"), [(1, 0), (1, 3), (2, 2)])
def test_outputs_and_gradients_are_those_of_the_reference(layers_of_lstm: int, frequencies: int) -> None:
    config = SMALL.model_copy(update={"lstm_layers": layers_of_lstm, "value_frequencies": frequencies})
    network = network_of(config=config)
    batch = random_batch(LAYERS, PRIORS, LENGTHS, np.random.default_rng(1), unknown=0.2)
    plan = plan_minibatch(batch, network.grouping)
    leaves = network.leaves(plan)
    log_q = network.log_proposal(plan, torch.from_numpy(batch.observation), leaves)
    log_q.sum().backward()
    dense = {name: value.grad.clone() for name, value in network.dense().items()}
    network.zero_grad()
    expected, tables = reference(network, batch)
    expected.sum().backward()
    by_batch = torch.empty(len(plan))
    by_batch[torch.from_numpy(np.argsort(np.argsort(plan.source)))] = log_q.detach()
    torch.testing.assert_close(by_batch, expected.detach(), rtol=2e-4, atol=2e-4)
    for name, value in network.dense().items():
        torch.testing.assert_close(dense[name], value.grad, rtol=1e-3, atol=1e-3 * float(value.grad.abs().max()))
    for name, leaf in leaves.items():
        whole = torch.zeros_like(network.tables[name]).index_copy(0, leaf.rows, leaf.value.grad)
        gradient = tables[name].grad
        if gradient is None:  # the reference does not embed values that no token follows
            gradient = torch.zeros_like(tables[name])
        bound = 1e-3 * max(float(gradient.abs().max()), 1e-6)
        torch.testing.assert_close(whole, gradient, rtol=1e-3, atol=bound)


def test_traces_do_not_see_each_other() -> None:
    network = network_of()
    rng = np.random.default_rng(2)
    batch = random_batch(LAYERS, PRIORS, LENGTHS, rng)
    together = log_proposals(network, batch)
    for trace in range(len(batch)):
        tokens = slice(batch.offset[trace], batch.offset[trace + 1])
        alone = Minibatch(
            batch.observation[trace : trace + 1],
            np.array([0, tokens.stop - tokens.start]),
            *(getattr(batch, name)[tokens] for name in ("layer", "value", "low", "high", "parameters", "log_prior")),
            tags=batch.tags[trace : trace + 1],
        )
        # float32 sums over another order
        np.testing.assert_allclose(log_proposals(network, alone), together[tokens], rtol=1e-3, atol=1e-4)


def test_loss_adds_the_prior_of_unknown_addresses() -> None:
    network = network_of()
    batch = random_batch(LAYERS, PRIORS, LENGTHS, np.random.default_rng(3), unknown=0.3)
    total, parts = network.loss(batch)
    assert parts["unknown"] == pytest.approx(-batch.log_prior[batch.layer < 0].sum())
    assert float(total.detach()) == pytest.approx(sum(parts.values()), rel=1e-5)
    assert float(total.detach()) == pytest.approx(-log_proposals(network, batch).sum(), rel=1e-5)


def test_a_batch_without_known_tokens_has_the_loss_of_the_prior() -> None:
    batch = random_batch(LAYERS, PRIORS, [2, 2], np.random.default_rng(3), unknown=1.0)
    total, _ = network_of().loss(batch)
    assert float(total) == pytest.approx(-batch.log_prior.sum())


def test_parameters_of_one_uniform_address_are_the_papers() -> None:
    counts = []
    for addresses in (1, 2):
        rows = [LayerRow(f"[f]__Uniform__{i}", "", "Uniform", 0, 1) for i in range(addresses)]
        network = ProposalNetwork(LayerTable(rows, [ObservationLayout("y", (4,), None)]), NetworkConfig())
        tables = network.tables.items()
        counts.append(sum(t.numel() for n, t in tables if n.split("_")[1:2] in (["hidden"], ["out"])))
    assert counts == [147_183, 2 * 147_183]


def test_the_3dcnn_has_the_papers_layers() -> None:
    layers = LayerTable([LayerRow("[f]__Uniform__1", "", "Uniform", 0, 1)], [ObservationLayout("y", (20, 35, 35), 0.2)])
    network = ProposalNetwork(layers, NetworkConfig())
    convolutions = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 128)]
    expected = sum(27 * i * o + o for i, o in convolutions) + 2048 * 256 + 256
    assert sum(p.numel() for p in network.observation.parameters()) == expected
    assert network.input_width == 256 + 4 + 64 + 64


def test_bfloat16_is_close_to_float32() -> None:
    layers = layer_table((Uniform(0.0, 1.0), Categorical((0.5, 0.5))), 2, (20, 20, 20))
    batch = random_batch(layers, (Uniform(0.0, 1.0), Categorical((0.5, 0.5))), [4, 6], np.random.default_rng(4))
    single = network_of(layers)
    half = network_of(layers, SMALL.model_copy(update={"dtype": "bfloat16"}))
    # bfloat16 keeps 8 bits; the log densities are of order one
    np.testing.assert_allclose(log_proposals(half, batch), log_proposals(single, batch), atol=0.1)


def test_each_observation_has_an_embedding_and_all_of_them_matter() -> None:
    """The log density depends on every element of every observation: its derivatives are not zero."""
    shapes = [(), (3,), (2, 5), (20, 21, 23), (10, 7, 7), (2, 3, 4, 5)]
    rows = layer_table((Uniform(0.0, 1.0),), 1, ()).rows
    layouts = [ObservationLayout(f"y{number}", shape, None) for number, shape in enumerate(shapes)]
    layers = LayerTable(rows, layouts)
    network = network_of(layers)
    kinds = [type(embedding).__name__ for embedding in network.observation.embeddings]
    assert kinds == [f"{kind}Embedding" for kind in ("Vector", "Vector", "Strided", "Conv", "Strided", "Strided")]
    batch = random_batch(layers, (Uniform(0.0, 1.0),), [2, 2], np.random.default_rng(4))
    observation = torch.from_numpy(batch.observation).requires_grad_()
    plan = plan_minibatch(batch, network.grouping)
    network.log_proposal(plan, observation, network.leaves(plan)).sum().backward()
    assert observation.grad is not None
    for part, shape in zip(network.observation.split(observation.grad), shapes, strict=True):
        assert part.shape == (2, *shape)
        assert part.abs().amax(0).flatten().count_nonzero() > 0.5 * math.prod(shape)


@pytest.mark.parametrize(
    ("layouts", "message"),
    [([], "no observe statement"), ([ObservationLayout("y", (3, 0), None)], "at least one element")],
)
def test_nothing_to_observe_is_an_error(layouts: list[ObservationLayout], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        ProposalNetwork(LayerTable(layer_table((Uniform(0.0, 1.0),), 1, ()).rows, layouts), SMALL)


def test_a_layer_of_unknown_kind_is_an_error() -> None:
    layers = LayerTable([LayerRow("a__Cauchy__1", "", "Cauchy", 0, 1)], [ObservationLayout("y", (2,), None)])
    with pytest.raises(NetworkError, match="Cauchy"):
        ProposalNetwork(layers, SMALL)


SEEING = layer_table(PRIORS, 3, (6,), (TagInput("pair", (2,)), TagInput("square", (2, 2)), TagInput("unseen", ())))


def network_that_sees_tags() -> ProposalNetwork:
    visible = {"square": ("Normal0", "Uniform1"), "pair": ("Normal0", "Poisson2")}
    network = network_of(SEEING, SMALL.model_copy(update={"tags": visible}))
    assert network.tag_inputs is not None
    middle, spread = np.linspace(-1.0, 1.0, 6), np.linspace(0.5, 2.0, 6)
    network.tag_inputs.learn_scale(np.stack([middle - spread, middle + spread]))
    with torch.no_grad():
        network.lstm.weight_ih_l0[:, -6:] = 0.5 * torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    return network


def test_only_the_named_draws_see_a_tag() -> None:
    """Another value of a tag changes the proposals of the layers that see it, and those after them in the trace."""
    network = network_that_sees_tags()
    for name, column, first in (("Poisson2", 4, 2), ("Uniform1", 0, 1), ("Normal0", 5, 0)):
        order = np.array([k for k in range(len(SEEING)) if k > 2] + [first] + [k for k in range(3) if k != first])
        batch = random_batch(SEEING, PRIORS, [len(order)], np.random.default_rng(3), tags=6, layer=order)
        tags = batch.tags.copy()
        tags[0, column] += 1.0
        same = log_proposals(network, batch) == log_proposals(network, replace(batch, tags=tags))
        place = order.tolist().index(first)
        assert SEEING.rows[first].name == name
        assert same[:place].all()
        assert not same[place]


def test_a_tag_that_a_run_does_not_have_is_replaced_by_its_mean() -> None:
    network = network_that_sees_tags()
    assert network.tag_inputs is not None
    batch = random_batch(SEEING, PRIORS, [12], np.random.default_rng(3), tags=6)
    mean = network.tag_inputs.shift.double().numpy()[None]
    np.testing.assert_array_equal(
        log_proposals(network, replace(batch, tags=np.full((1, 6), np.nan))),
        log_proposals(network, replace(batch, tags=mean)),
    )


@pytest.mark.parametrize(
    ("visible", "message"),
    [
        (
            {"momentum": ("Normal0",)},
            r"network.tags: the traces have no tag 'momentum'.*\['pair', 'square', 'unseen'\]",
        ),
        (
            {"pair": ("Normal0", "px")},
            r"network.tags.pair: the simulator has no controlled draws of the names \['px'\]",
        ),
    ],
)
def test_a_tag_or_a_draw_that_does_not_exist_is_named(visible: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        ProposalNetwork(SEEING, SMALL.model_copy(update={"tags": visible}))


def test_the_scale_of_tags_is_that_of_the_traces_that_have_them() -> None:
    inputs = network_that_sees_tags().tag_inputs
    assert inputs is not None
    known = np.random.default_rng(2).normal(3.0, 2.0, (500, 6))
    known[:, 2] = 7.0
    tags = known.copy()
    tags[::2, 5] = np.nan
    inputs.learn_scale(tags)
    standard = inputs.standardise(torch.from_numpy(tags)).numpy()
    np.testing.assert_allclose(standard[:, :2], (known - known.mean(0))[:, :2] / known.std(0)[:2], atol=1e-5)
    np.testing.assert_array_equal(standard[:, 2], 0.0)
    np.testing.assert_array_equal(standard[::2, 5], 0.0)
    assert standard[1::2, 5].std() == pytest.approx(1.0, abs=1e-5)
    assert inputs.always.tolist() == [True] * 5 + [False]


def test_a_run_without_a_tag_that_training_had_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    session = network_that_sees_tags().session(np.zeros(6))
    for _ in range(3):
        found = session.visible_tags({"square": np.zeros((2, 2))})
    assert np.isnan(found).tolist() == [False] * 4 + [True] * 2
    assert [record.getMessage()[:24] for record in caplog.records] == ["a run has no tag 'pair',"]


def test_a_tag_of_another_shape_is_an_error() -> None:
    session = network_that_sees_tags().session(np.zeros(6))
    with pytest.raises(NetworkError, match=r"'pair' of shape \(2,\), found shape \(3,\)"):
        session.visible_tags({"square": np.zeros((2, 2)), "pair": np.zeros(3)})


@pytest.mark.parametrize("make_network", [network_of, network_that_sees_tags])
def test_a_session_has_the_densities_of_training(make_network: Callable[[], ProposalNetwork]) -> None:
    """Values proposed one by one, put into a batch, have the log density that the session returned."""
    network = make_network()
    rng = np.random.default_rng(8)
    batch = random_batch(network.layers, PRIORS, [24], rng, tags=network.tag_width)
    for defensive in (0.0, 0.1):
        session = network.session(batch.observation[0], defensive=defensive)
        for _ in range(2):  # a second run starts from a fresh state
            session.begin()
            session.see(batch.tags[0])
            drawn, log_densities = [], []
            for layer in batch.layer:
                prior = PRIORS[int(layer) % len(PRIORS)]
                value, log_q = session.propose(LAYERS.rows[layer].address, prior, rng)
                drawn.append((value, prior.log_prob(value)))
                log_densities.append(log_q)
            values, log_prior = np.array(drawn).T
            again = replace(batch, value=values, log_prior=log_prior)
            possible = np.isfinite(log_prior)  # a proposal may draw a category of probability zero: weight zero
            network_only = log_proposals(network, again)
            with np.errstate(divide="ignore"):
                expected = np.logaddexp(np.log1p(-defensive) + network_only, np.log(defensive) + log_prior)
            # float32 in training, float64 behind the last layer here
            np.testing.assert_allclose(np.array(log_densities)[possible], expected[possible], rtol=1e-3, atol=2e-3)


def test_a_session_proposes_the_same_on_machines_with_and_without_bfloat16() -> None:
    layers = layer_table((Uniform(0.0, 1.0),), 1, (20, 20, 20))
    single, half = (network_of(layers, SMALL.model_copy(update={"dtype": name})) for name in ("float32", "bfloat16"))
    observation = np.random.default_rng(5).normal(size=layers.observation_shape).astype(np.float32)
    found = [
        network.session(observation).propose(layers.rows[0].address, Uniform(0.0, 1.0), np.random.default_rng(6))
        for network in (single, half)
    ]
    assert found[0] == found[1]


def test_several_defensive_shares_are_a_mixture_of_whole_runs() -> None:
    """The entries' densities multiply to the mean over shares of the density of the run with one share."""
    network, shares = network_of(), (0.0, 0.1, 0.6)
    rng = np.random.default_rng(4)
    batch = random_batch(LAYERS, PRIORS, [24], rng)
    session = network.session(batch.observation[0], defensive=shares)
    for _ in range(3):  # a run starts with equal shares, whatever the run before it
        session.begin()
        drawn = [
            (
                *session.propose(LAYERS.rows[layer].address, PRIORS[layer % len(PRIORS)], rng),
                PRIORS[layer % len(PRIORS)],
            )
            for layer in batch.layer.tolist()
        ]
        values = np.array([value for value, _, _ in drawn])
        log_prior = np.array([prior.log_prob(value) for value, _, prior in drawn])
        again = replace(batch, value=values, log_prior=log_prior)
        by_entry = log_proposals(network, again)
        with np.errstate(divide="ignore"):
            by_share = [np.logaddexp(np.log1p(-d) + by_entry, np.log(d) + log_prior).sum() for d in shares]
        expected = np.logaddexp.reduce(by_share) - np.log(len(shares))
        assert sum(log_q for _, log_q, _ in drawn) == pytest.approx(expected, abs=2e-2)  # float32 in training


def test_a_session_skips_unknown_addresses() -> None:
    network, rng = network_of(), np.random.default_rng(8)
    observation = np.zeros(6)
    row, prior = LAYERS.rows[0], PRIORS[0]
    plain, skipping = network.session(observation), network.session(observation)
    first = [plain.propose(row.address, prior, np.random.default_rng(s)) for s in (1, 2)]
    second = [skipping.propose(row.address, prior, np.random.default_rng(1))]
    assert skipping.propose("[elsewhere]__Normal__1", prior, rng) is None
    second.append(skipping.propose(row.address, prior, np.random.default_rng(2)))
    assert first == second


@pytest.mark.parametrize(
    ("observation", "message"), [(np.zeros(7), r"\(6,\), found \(7,\)"), (np.full(6, np.nan), "finite")]
)
def test_a_wrong_observation_is_an_error(observation: np.ndarray, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        network_of().session(observation)


def test_a_prior_of_another_kind_is_an_error() -> None:
    session = network_of().session(np.zeros(6))
    categorical = next(row for row in LAYERS.rows if row.categories == 4)
    for prior in (Normal(0.0, 1.0), Categorical((0.5, 0.5))):
        with pytest.raises(NetworkError, match="made for Categorical with 4"):
            session.propose(categorical.address, prior, np.random.default_rng(0))


def test_the_defensive_share_bounds_the_weight() -> None:
    network, rng = network_of(), np.random.default_rng(1)
    session = network.session(np.zeros(6), defensive=0.1)
    for layer, row in enumerate(LAYERS.rows):
        prior = PRIORS[layer % len(PRIORS)]
        for _ in range(20):
            value, log_q = session.propose(row.address, prior, rng)
            assert prior.log_prob(value) - log_q <= np.log(10.0) + 1e-9


@pytest.mark.parametrize("inputs", [4, 16, 23, 256])
def test_rows_of_products_do_not_depend_on_one_another(inputs: int) -> None:
    """Bit for bit, for every number of rows: narrow weights have zeros appended."""
    for columns in (*range(1, 20), 30, 64, 1024):
        generator = torch.Generator().manual_seed(columns)
        x, weight = (torch.randn(*shape, generator=generator) for shape in ((40, inputs), (inputs, columns)))
        bias = torch.randn(columns, generator=generator)
        exact = x.double() @ weight.double() + bias.double()
        weight, bias = widened(weight)[:inputs], widened(bias)
        alone = torch.cat([affine(bias, row[None], weight) for row in x])
        # a sum of up to 257 terms near 1, in float32
        torch.testing.assert_close(alone[:, :columns].double(), exact, rtol=0.0, atol=1e-4)
        for rows in range(1, 41):
            assert torch.equal(affine(bias, x[:rows], weight), alone[:rows])
            assert torch.equal(affine(bias.expand(rows, -1), x[-rows:], weight), alone[-rows:])


def test_proposals_do_not_depend_on_the_other_lanes() -> None:
    """Bit for bit, whatever the number of lanes in a call and their order."""
    network = network_of()
    observation = np.linspace(-1.0, 1.0, 6)
    paths = [[(3 * lane + step * (lane % 5 + 1)) % len(LAYERS) for step in range(6)] for lane in range(40)]

    def proposals(together: int) -> list[list[Proposal]]:
        session = network.session(observation, lanes=40)
        rngs = [np.random.default_rng(lane) for lane in range(40)]
        found: list[list[Proposal]] = [[] for _ in paths]
        for start in range(0, 40, together):
            lanes = list(reversed(range(start, min(start + together, 40))))
            for step in range(6):
                layers = [paths[lane][step] for lane in lanes]
                addresses = [LAYERS.rows[layer].address for layer in layers]
                priors = [PRIORS[layer % len(PRIORS)] for layer in layers]
                for lane, proposal in zip(
                    lanes, session.propose_all(lanes, addresses, priors, [rngs[lane] for lane in lanes]), strict=True
                ):
                    found[lane].append(proposal)
        return found

    alone = proposals(1)
    assert len({proposal.value for run in alone for proposal in run}) > 50
    assert all(proposals(together) == alone for together in (2, 3, 16, 40))
