"""Which GPUs a pod gets is predicted under churn: pods end and start faster than the agent reports."""

from __future__ import annotations

import random

import pytest

from tests.simulation.churn import Churn, Delays
from topology.platforms import machine_of

PODS = 400

# name -> (platform, delays, whether pods come back under the same name)
CASES: dict[str, tuple[str, Delays, bool]] = {
    "hybrid cube mesh": ("dgx-1v", Delays(), False),
    "bridged pairs": ("a100-pcie-bridge-pairs", Delays(), False),
    "NVSwitch board": ("hgx-h100", Delays(), False),
    "a StatefulSet's pods": ("dgx-1v", Delays(), True),
    "no allocatedResourcesStatus": ("dgx-1v", Delays(own_status=None, agent_interval=2.0), False),
    "a dead agent": ("a100-pcie-bridge-pairs", Delays(agent_interval=None), True),
}


@pytest.mark.parametrize("case", CASES)
def test_real_set_is_predicted_for_99_of_100_pods_under_churn(case: str) -> None:
    platform, delays, same_names = CASES[case]
    churn = Churn(machine_of(platform, "u"), random.Random(7), delays, same_names)
    churn.run(PODS)
    assert sum(churn.results) >= 0.99 * PODS, f"{sum(churn.results)} of {PODS}"
    assert churn.refused == 0, "a node with room for the pod is believed to have none"
