from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.errors import SpecError
from inc_laaciq.quant.clipping import unit_alpha
from inc_laaciq.quant.distributions import excess_kurtosis_of_shape, kurtosis_position
from inc_laaciq.quant.kurtosis_table import kurtosis_table

models = st.sampled_from([(2, "narrow"), (3, "full"), (4, "narrow"), (4, "asym"), (5, "relu"), (8, "narrow")])


@given(st.floats(np.log(0.12), np.log(50.0)).map(lambda x: float(np.exp(x))), models)
def test_the_table_agrees_with_solving(shape, model):
    bits, layout = model
    table = kurtosis_table(bits, layout)
    looked_up = np.interp(kurtosis_position(excess_kurtosis_of_shape(shape)), table.nodes, table.alphas)
    # Nearly uniform values (excess kurtosis below -1.1) lie between coarser nodes.
    tolerance = 5e-4 if shape <= 10 else 2e-3
    assert looked_up == pytest.approx(unit_alpha(shape, bits, "integer", layout), rel=tolerance)


@pytest.mark.parametrize("bits", range(2, 9))
def test_narrow_tables_increase(bits):
    assert (np.diff(kurtosis_table(bits, "narrow").alphas) > 0).all()


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("layout", ["full", "asym"])
def test_other_tables_dip_by_no_more_than_they_say(bits, layout):
    alphas = kurtosis_table(bits, layout).alphas
    assert (alphas / np.maximum.accumulate(alphas)).min() > 1 - 5e-3


def test_nodes_are_evenly_spaced():
    table = kurtosis_table(4, "narrow")
    assert np.diff(table.nodes) == pytest.approx(table.step)


def test_the_shared_table_cannot_be_modified():
    table = kurtosis_table(4, "narrow")
    assert table is kurtosis_table(4, "narrow")
    with pytest.raises(ValueError, match="read-only"):
        table.alphas[0] = 1.0


def test_unknown_layout_is_refused():
    with pytest.raises(SpecError, match="layout='wide'"):
        kurtosis_table(4, "wide")
