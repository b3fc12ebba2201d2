"""Layouts of one layer: what is packed is read back bit by bit, here and by the code of those who read it."""

from __future__ import annotations

import pytest
import torch
from packed_models import any_weight

from inc_laaciq.backends.compressed_tensors_layout import compressed_tensors, compressed_tensors_config
from inc_laaciq.backends.gptq_layout import gptq_codes, gptq_tensors, read_gptq_tensors
from inc_laaciq.backends.packed_integers import PackedForm, common_form, pack_words, unpack_words, unsigned_codes
from inc_laaciq.errors import ModelError

FORMS = [(2, "sym", 16), (3, "asym", 32), (4, "sym", -1), (4, "asym", 16), (5, "asym", 16), (8, "sym", 16)]


def gptq(weight, variant="gptq", *, form=None, **options):
    form = form or common_form([weight])
    return gptq_tensors("layer", gptq_codes(weight, form, variant, **options), form, variant), form


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_words_hold_their_values_lowest_bits_first(bits):
    values = torch.randint(0, 1 << bits, (3, 37), generator=torch.Generator().manual_seed(0))
    words = pack_words(values, bits)
    assert words.shape == (3, -(-37 * bits // 32))
    assert torch.equal(unpack_words(words, bits, 37), values.int())
    assert int(pack_words(torch.tensor([1, 2]), bits)) == 1 + (2 << bits)


@pytest.mark.parametrize("positive_scales", [False, True])
@pytest.mark.parametrize("variant", ["gptq", "gptq_v2"])
@pytest.mark.parametrize(("bits", "scheme", "group_size"), [*FORMS, (8, "asym", 16)])
def test_gptq_layout_holds_exactly_what_was_solved(bits, scheme, group_size, variant, positive_scales):
    weight = any_weight(bits, scheme, group_size=group_size)
    tensors, form = gptq(weight, variant, positive_scales=positive_scales)
    assert form.bits == {2: 2, 3: 4, 4: 4, 5: 8, 8: 8}[bits]
    g_idx = tensors.pop("g_idx")
    read = read_gptq_tensors(**tensors, bits=form.bits, variant=variant)
    assert torch.equal(read.dequantize(), weight.dequantize())
    assert g_idx.tolist() == [0 if group_size == -1 else column // group_size for column in range(64)]
    if positive_scales:
        assert (read.scale > 0).all()
    elif variant == "gptq":
        # A zero point of 0 would be stored as -1, and gptqmodel's sum of whole words carry it into the neighbour.
        assert (read.zero_point > 0).all()
    if scheme == "sym" and not positive_scales:
        assert (read.zero_point == 1 << (form.bits - 1)).all()
        assert (read.scale < 0).any()


def test_one_form_carries_layers_that_differ():
    weights = [any_weight(3, "sym", group_size=32), any_weight(4, "asym", group_size=16), any_weight(2, "sym")]
    weights.append(any_weight(4, "sym", group_size=-1))
    form = common_form(weights)
    assert form == PackedForm(bits=4, group_size=16, sym=False)
    for weight in weights:
        tensors, _ = gptq(weight, form=form)
        tensors.pop("g_idx")
        assert tensors["scales"].shape == (4, 32)
        assert torch.equal(read_gptq_tensors(**tensors, bits=4, variant="gptq").dequantize(), weight.dequantize())


def test_groups_without_a_common_boundary_take_a_finer_one():
    weights = [any_weight(4, "sym", columns=192, group_size=48), any_weight(4, "sym", columns=192, group_size=64)]
    form = common_form(weights)
    assert form.group_size == 16
    for weight in weights:
        assert torch.equal(unsigned_codes(weight, form).dequantize(), weight.dequantize())


def test_rows_that_fill_no_words_are_refused():
    with pytest.raises(ModelError, match=r"'layer' has out_features=20, which is no multiple of 8"):
        gptq(any_weight(4, "sym", rows=20))
    with pytest.raises(ModelError, match="in_features=36"):
        gptq(any_weight(4, "sym", columns=36, group_size=-1))


@pytest.mark.inc
@pytest.mark.parametrize("positive_scales", [False, True])
@pytest.mark.parametrize(("bits", "scheme", "group_size"), FORMS[:4])
def test_neural_compressors_layer_reads_it_rounded_to_float16(bits, scheme, group_size, positive_scales):
    """Its products of code and scale are float16 numbers; nothing else is lost."""
    modules = pytest.importorskip("neural_compressor.torch.algorithms.weight_only.modules", exc_type=ImportError)
    weight = any_weight(bits, scheme, group_size=group_size)
    tensors, form = gptq(weight, positive_scales=positive_scales)
    layer = modules.INCWeightOnlyLinear(64, 32, bits=form.bits, group_size=group_size, zp=True, use_optimum_format=True)
    layer.load_state_dict(tensors, strict=False)
    assert torch.equal(layer.recover(), weight.dequantize().half())


@pytest.mark.inc
@pytest.mark.parametrize("scheme", ["sym", "asym"])
def test_what_the_loader_for_gaudi_packs_anew(scheme):
    """The way to the card as far as it runs without: unpacked, packed along the outputs, scales in bfloat16."""
    modules = pytest.importorskip("neural_compressor.torch.algorithms.weight_only.modules", exc_type=ImportError)
    weight = any_weight(4, scheme)
    tensors, _ = gptq(weight)
    layer = modules.INCWeightOnlyLinear(64, 32, bits=4, group_size=16, zp=True, use_optimum_format=True)
    layer.load_state_dict(tensors, strict=False)
    gaudi = modules.HPUWeightOnlyLinear(64, 32, bits=4, group_size=16, zp=True, device="cpu")
    found = layer.unpack()
    codes, zeros = gaudi.pack_tensor(found["int_weight"].T), gaudi.pack_tensor(found["zp"].T)
    assert codes.shape == gaudi.qweight.shape
    assert zeros.shape == gaudi.qzeros.shape
    assert found["g_idx"] is None
    shifted = unpack_words(codes, 4, 32).reshape(4, 16, 32) - unpack_words(zeros, 4, 32)[:, None]
    on_card = shifted * found["scales"].T.bfloat16().float()[:, None]
    solved = weight.codes.int().reshape(32, 4, 16)
    if weight.zero_point is not None:
        solved = solved - weight.zero_point.int()[..., None]
    expected = solved * weight.scale.bfloat16().float()[..., None]
    assert torch.equal(on_card.reshape(64, 32).T, expected.reshape(32, 64))


@pytest.mark.parametrize(("bits", "scheme", "group_size"), [*FORMS, (8, "asym", -1)])
def test_compressed_tensors_own_reader_gives_what_was_solved(bits, scheme, group_size):
    package = pytest.importorskip("compressed_tensors")
    weight = any_weight(bits, scheme, group_size=group_size)
    tensors = compressed_tensors(weight)
    group = compressed_tensors_config({"layer": weight}, [])["config_groups"]["group_0"]
    scheme_read = package.quantization.QuantizationScheme.model_validate(group)
    reader = package.compressors.pack_quantized.PackedQuantizationCompressor
    exact = {**tensors, "weight_scale": tensors["weight_scale"].float()}
    assert torch.equal(reader.decompress(exact, scheme_read)["weight"], weight.dequantize())
    assert set(tensors) == set(reader.compression_param_names(scheme_read))
