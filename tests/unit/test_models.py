# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import math
import threading

import numpy as np
import pytest
from scipy import integrate, stats

from etalumis import execution
from etalumis.address import AddressTable
from etalumis.distributions import ArrayDistribution, Bernoulli, Categorical, Normal, Poisson, Uniform
from etalumis.errors import InferenceError
from etalumis.models import FunctionModel, examples, observe, rejection_scope, sample, tag


class Prior:
    """Draws from the prior and conditions on given values."""

    def __init__(self, seed=0, observations=None):
        self.rng = np.random.default_rng(seed)
        self.observations = observations or {}

    def sample(self, site):
        return site.distribution.sample(self.rng)

    def observe(self, name, distribution, given):
        return self.observations.get(name, given)


class Scripted(Prior):
    def __init__(self, *values):
        super().__init__()
        self.values = list(values)

    def sample(self, site):
        return self.values.pop(0)


def run(function, controller=None, addresses=None):
    return execution.run(FunctionModel(function), controller or Prior(), addresses)


def addresses_of(trace):
    return [trace.addresses.name(address) for address in trace.address]


def test_statements_reach_the_trace():
    def forward():
        x = sample(Uniform(0.0, 1.0), name="x")
        sample(Bernoulli(0.5), control=False)
        observe(Normal(x, 1.0), value=2, name="y")
        observe(ArrayDistribution(1, (np.full((2, 3), x), np.array(1.0))), name="grid")
        tag("both", [x, 1])
        return x

    trace = run(forward)
    assert trace.name == ["x", ""]
    assert trace.result == trace.value[0]
    assert trace.flags == [1, 0]
    assert [(o.name, o.distribution.shape) for o in trace.observes] == [("y", ()), ("grid", (2, 3))]
    assert trace.log_likelihood == pytest.approx(stats.norm.logpdf(2, trace.value[0], 1))
    assert trace.tags["both"].tolist() == [trace.value[0], 1]


def test_the_old_order_of_arguments_still_works_with_a_warning():
    def new():
        x = sample(Uniform(0.0, 1.0), False, "x")
        observe(Normal(x, 1.0), "y", 2.0)
        observe(Normal(x, 1.0), "z")
        tag("x", x)
        return x

    def old():
        with pytest.warns(FutureWarning, match=r"old order: write sample\(distribution, control, name\)"):
            x = sample(Uniform(0.0, 1.0), "x", False)
        with pytest.warns(FutureWarning, match=r"write observe\(distribution, name, value\)") as caught:
            observe(Normal(x, 1.0), 2.0, "y")
        assert caught[0].filename == __file__
        with pytest.warns(FutureWarning, match="write observe"):
            observe(Normal(x, 1.0), None, name="z")
        with pytest.warns(FutureWarning, match=r"write tag\(name, value\)"):
            tag(x, "x")
        return x

    first, second = run(new), run(old)
    assert first.flags == second.flags == [0]
    for trace in (first, second):
        assert trace.name == ["x"]
        assert [(observed.name, observed.value) for observed in trace.observes] == [("y", 2.0), ("z", None)]
        assert trace.tags == {"x": trace.value[0]}


@pytest.mark.parametrize(
    "statement",
    [
        lambda: sample(Uniform(0.0, 1.0), "x", "y"),
        lambda: sample(Uniform(0.0, 1.0), True, False),
        lambda: sample(Uniform(0.0, 1.0), "x", name="y"),
        lambda: observe(Normal(0.0, 1.0), "x", "y"),
        lambda: observe(Normal(0.0, 1.0), 1.0, value=2.0),
        lambda: tag("x", "y"),
        lambda: tag("x"),
        lambda: tag(1.0, 2.0),
    ],
)
def test_arguments_in_no_valid_order_are_refused(statement):
    with pytest.raises(TypeError, match=r"expected (sample|observe|tag)\(.*found"):
        run(statement)


def test_text_in_place_of_a_value_is_named():
    with pytest.raises(TypeError, match=r"expected tag\(name, value\) with a numeric value, found the text 'y'"):
        run(lambda: tag("x", "y"))


def test_a_draw_with_array_parameters_is_an_entry_for_each_element():
    drawn = []

    def forward():
        for _ in range(2):
            drawn.append(sample(Uniform(np.zeros((2, 2)), 1.0), control=False, name="x"))
        with rejection_scope() as scope:
            sample(Uniform(np.zeros(1), 1.0))
            scope.repeat()
            sample(Uniform(np.zeros(1), 1.0))

    trace = run(forward, Scripted(*(k / 16 for k in range(1, 11))))
    np.testing.assert_array_equal(drawn, np.arange(1, 9).reshape(2, 2, 2) / 16)
    assert trace.name == [*("x[0,0]", "x[0,1]", "x[1,0]", "x[1,1]") * 2, "", ""]
    stack = addresses_of(trace)[0].partition("]")[0]
    instances = [f"{stack}][{i},{j}]__Uniform__{n}" for n in (1, 2) for i in (0, 1) for j in (0, 1)]
    assert addresses_of(trace)[:8] == instances
    assert addresses_of(trace)[8].endswith("][0]__Uniform__1")
    assert trace.flags[:8] == [0] * 8
    assert (trace.scope[8:], trace.repetition[8:]) == ([1, 1], [0, 1])
    with pytest.raises(ValueError, match="low < high"):
        run(lambda: sample(Uniform(np.zeros(2), np.array([1.0, -1.0]))))


def test_observe_takes_plain_arrays():
    rate = np.array([1.0, 2.0, 3.0])

    def forward():
        observe(Poisson(rate), "counts")
        observe(Normal([0.0, 1.0], 0.5), "readings", [0.5, 1.5])

    trace = run(forward, Prior(observations={"counts": np.array([2.0, 0.0, 4.0])}))
    assert [observed.distribution.shape for observed in trace.observes] == [(3,), (2,)]
    expected = stats.poisson.logpmf([2, 0, 4], rate).sum() + 2 * stats.norm.logpdf(0.5, 0.0, 0.5)
    assert trace.log_likelihood == pytest.approx(expected)


def helper():
    return sample(Uniform(0.0, 1.0))


def test_addresses_are_call_stacks_below_the_model():
    def forward():
        helper()
        helper()
        for _ in range(2):
            (lambda: helper())()

    names = addresses_of(run(forward))
    here = "test_addresses_are_call_stacks_below_the_model.<locals>.forward"
    assert all(name.startswith(f"[{here}+") and name.endswith("]__Uniform__1") for name in names[:3])
    assert "; helper+1:11-36]" in names[0]
    assert "<lambda>:" in names[2]
    assert len(set(names)) == 4
    assert names[3] == names[2].removesuffix("1") + "2"


def test_a_loop_condition_is_one_statement():
    def forward():
        while sample(Uniform(0.0, 1.0)) > 0.5:
            pass

    names = addresses_of(run(forward, Scripted(0.9, 0.8, 0.7, 0.1)))
    assert {name.rpartition("__")[0] for name in names} == {names[0].removesuffix("__1")}


def test_several_calls_in_one_line_have_different_addresses():
    def pick():
        return lambda: sample(Uniform(0.0, 1.0))

    def forward():
        return sample(Uniform(0.0, 1.0)) + sample(Uniform(0.0, 1.0)) + pick()() + pick()()

    assert len(set(addresses_of(run(forward)))) == 4


def test_addresses_do_not_depend_on_the_caller():
    model = FunctionModel(helper)
    table = AddressTable()

    def deeper():
        return execution.run(model, Prior(), table)

    assert deeper().address == execution.run(model, Prior(), table).address == deeper().address
    assert FunctionModel(helper).name == "helper"
    assert FunctionModel(lambda: None, name="other").name == "other"


def test_functions_defined_in_each_run_keep_their_addresses():
    def forward():
        def inner():
            return sample(Uniform(0.0, 1.0))

        namespace = {"sample": sample, "Uniform": Uniform}
        exec("def made(): return sample(Uniform(0.0, 1.0))", namespace)  # a new code object each time
        return inner() + namespace["made"]()

    table = AddressTable()
    model = FunctionModel(forward)
    assert len({tuple(execution.run(model, Prior(), table).address) for _ in range(50)}) == 1


def test_callables_can_be_models():
    class Simulation:
        def __call__(self):
            return sample(Categorical((0.5, 0.5)), name="c")

    trace = run(Simulation())
    assert trace.result in (0.0, 1.0)
    assert "Simulation.__call__" in addresses_of(trace)[0]


def test_runs_can_be_nested_and_concurrent():
    def outer():
        x = sample(Uniform(0.0, 1.0))
        inner = run(helper, Scripted(0.75))
        assert inner.value == [0.75]
        y = sample(Uniform(0.0, 1.0))
        return x + y

    traces = {}

    def work(number):
        traces[number] = run(outer, Scripted(number, number))

    threads = [threading.Thread(target=work, args=(number / 8,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: trace.value for number, trace in traces.items()} == {n / 8: [n / 8, n / 8] for n in range(4)}


@pytest.mark.parametrize(
    "statement",
    [lambda: sample(Uniform(0.0, 1.0)), lambda: observe(Normal(0.0, 1.0)), lambda: tag("x", 1), lambda: scope_alone()],
)
def test_statements_outside_a_run_are_refused(statement):
    with pytest.raises(InferenceError, match=r"outside a run.*FunctionModel"):
        statement()


def scope_alone():
    with rejection_scope():
        pass


def test_a_failed_run_is_ended():
    def broken():
        with rejection_scope():
            raise KeyError("model's own")

    with pytest.raises(KeyError, match="model's own"):
        run(broken)
    with pytest.raises(InferenceError):
        sample(Uniform(0.0, 1.0))


def test_rejection_scopes_number_their_repetitions():
    def forward():
        sample(Uniform(0.0, 1.0), name="before")
        for _ in range(2):
            with rejection_scope() as scope:
                while sample(Uniform(0.0, 1.0), name="x") > 0.5:
                    with rejection_scope() as inner:  # the outermost wins
                        inner.repeat()
                        sample(Uniform(0.0, 1.0), name="y")
                    scope.repeat()
        sample(Uniform(0.0, 1.0), name="after")

    trace = run(forward, Scripted(0.1, 0.9, 0.2, 0.8, 0.3, 0.4, 0.45, 0.6))
    assert trace.name == ["before", "x", "y", "x", "y", "x", "x", "after"]
    assert trace.scope == [0, 1, 1, 1, 1, 1, 2, 0]
    assert trace.repetition == [0, 0, 0, 1, 1, 2, 0, 0]
    assert [trace.name[i] for i in trace.accepted] == ["before", "x", "x", "after"]
    names = addresses_of(trace)
    assert names[1] == names[3] == names[5]
    assert names[6] == names[5].removesuffix("1") + "2"


def many(name, runs, observations):
    table = AddressTable()
    model = examples.model(name)
    rng_runs = [execution.run(model, Prior(seed, observations), table) for seed in range(runs)]
    weights = np.exp([trace.log_likelihood for trace in rng_runs])
    results = np.array([trace.result for trace in rng_runs])
    return rng_runs, results, weights


def check(estimates, exact, k=4.5):
    """The mean of independent estimates is within k Monte Carlo standard errors of the exact value."""
    error = np.std(estimates, ddof=1) / math.sqrt(len(estimates))
    assert abs(np.mean(estimates) - exact) < k * error, (np.mean(estimates), exact, error)


NINES = {"obs0": np.array(8.0), "obs1": np.array(9.0)}


@pytest.mark.parametrize("name", ["gaussian_unknown_mean", "marsaglia", "marsaglia_replaced"])
def test_unknown_mean_has_its_prior_and_evidence(name):
    traces, results, weights = many(name, 3000, NINES)
    check(results, 1.0)
    check((results - 1.0) ** 2, 5.0)
    check(weights, math.exp(-8.239404))
    check(weights * (results - 7.25), 0.0)
    if name != "gaussian_unknown_mean":
        draws = np.array([len(trace) for trace in traces])
        check(draws / 2, 4 / math.pi)
    if name == "marsaglia_replaced":
        assert all(len(trace.accepted) == 2 for trace in traces)
        assert len({trace.type for trace in traces}) == 1


def test_branching_has_its_posterior_and_evidence():
    _, results, weights = many("branching", 3000, {"obs": np.array(6.0)})
    evidence = math.exp(-2.600149)
    check(weights, evidence)
    for r, probability in enumerate((0.030375, 0.122793, 0.04404, None, None, 0.338049, 0.225366, 0.12878, 0.06439)):
        if probability is not None:
            check(weights * ((results == r) - probability), 0.0)


def test_dependent_loop_has_the_evidence_of_quadrature():
    traces, results, weights = many("dependent_loop", 3000, {"obs": np.array(0.4)})

    def joint(x, theta):
        return (theta + 1) * x**theta * stats.norm.pdf(0.4, x, examples.LOOP_NOISE_STDDEV) / 3.5

    evidence = integrate.dblquad(joint, 0.5, 4.0, 0.0, 1.0)[0]
    mean = integrate.dblquad(lambda x, theta: theta * joint(x, theta), 0.5, 4.0, 0.0, 1.0)[0] / evidence
    check(weights, evidence)
    check(weights * (results - mean), 0.0)
    draws = np.array([len(trace) for trace in traces])
    # theta is uniform on (0.5, 4), and the loop takes 1 / Z = theta + 1 repetitions of two draws on average.
    check((draws - 1) / 2, 3.25)
