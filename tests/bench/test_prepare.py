"""What is refused before anything is sent."""

from dataclasses import replace

import pytest

from loratwin.bench import Options
from loratwin.bench.prepare import prepare
from loratwin.bench.running import RunningServers
from loratwin.bench.shared.job import Job
from loratwin.errors import InputError
from loratwin.records import EngineConfig
from loratwin.workload import AdapterGroup, Fixed, Separate, WorkloadSpec, draw

LENGTHS = Separate(prompt=Fixed(tokens=60), output=Fixed(tokens=5))
WORKLOAD = draw(WorkloadSpec(window_s=10, lengths=LENGTHS, groups=(AdapterGroup(name="a", count=1, rate=2),)))


def servers(**config):
    return RunningServers(("http://127.0.0.1:9",), ("a-0", "llm"), EngineConfig(max_loras=1, **config))


def test_requests_that_cannot_fit_the_server(tmp_path):
    num = WORKLOAD.num_requests
    expected = (
        rf"^{num} of {num} requests are longer than the server's max_model_len = 64 \(the longest has 65 tokens\)"
    )
    with pytest.raises(InputError, match=expected):
        prepare(WORKLOAD, servers(max_model_len=64), Options(), tmp_path / "p")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("config", "prompts"), [({"max_model_len": 65}, "random"), ({}, "random"), ({"max_model_len": 64}, "file")]
)
def test_requests_that_fit_or_of_whose_length_nothing_is_known(tmp_path, config, prompts):
    prepare(WORKLOAD, servers(**config), replace(Options(), prompts=prompts), tmp_path / "p")
    assert (tmp_path / "p" / "job.json").is_file()


@pytest.mark.parametrize(("in_flight", "before"), [(12, 12), (0, 8)])
def test_a_closed_loop_warms_up_with_as_many_in_flight_as_it_has(tmp_path, in_flight, before):
    prepare(WORKLOAD, servers(), Options(in_flight=in_flight, warm_up=12), tmp_path / "p")
    phases = {phase.name: phase for phase in Job.load(tmp_path / "p").phases}
    assert phases["warm-up"].in_flight == before and len(phases["warm-up"].adapter) == 12
