import pytest

from cnn_transfer.training import choose_precision, precision


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Let the machine be one without a graphics card whose processor has the given flags."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")

    def write(flags):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: Any\nflags\t\t: {flags}\nbugs\t\t: none\n")

    return write


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("fpu avx512f avx512_bf16 sse", "mixed_bfloat16"),
        ("fpu amx_bf16 amx_tile", "mixed_bfloat16"),
        ("fpu avx512f avx2", "float32"),
        ("fpu avx512_bf16_not_really", "float32"),
        ("", "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(processor, flags, policy):
    processor(flags)
    assert choose_precision("auto") == policy


@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "SeparableConv2D"])
def test_auto_is_float32_for_depthwise_convolutions_on_a_processor_alone(processor, cards, kind):
    import keras

    from cnn_transfer.models import build_network

    pixels = keras.Input((8, 8, 3))
    layer = keras.layers.DepthwiseConv2D(3) if kind == "DepthwiseConv2D" else keras.layers.SeparableConv2D(4, 3)
    depthwise = keras.Model(pixels, layer(pixels))
    processor("avx512_bf16")
    assert choose_precision("auto", depthwise) == "float32"
    assert choose_precision("auto", build_network("compact_cnn", (8, 8, 3), 2, seed=0)) == "mixed_bfloat16"
    assert choose_precision("mixed_bfloat16", depthwise) == "mixed_bfloat16"
    cards((9, 0))
    assert choose_precision("auto", depthwise) == "mixed_bfloat16"


@pytest.mark.usefixtures("processor")
def test_auto_is_float32_where_the_system_does_not_say():
    assert choose_precision("auto") == "float32"


def test_auto_is_float32_where_no_flags_are_listed(processor, tmp_path):
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd bf16\n")
    assert choose_precision("auto") == "float32"


@pytest.fixture
def cards(processor, monkeypatch):
    """Let the machine have graphics cards with these compute capabilities, and a processor with bfloat16."""
    import tensorflow as tf

    def put(*capabilities):
        processor("avx512_bf16")
        details = [{} if capability is None else {"compute_capability": capability} for capability in capabilities]
        monkeypatch.setattr(
            tf.config, "list_physical_devices", lambda kind: range(len(details)) if kind == "GPU" else []
        )
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda card: details[card])

    return put


@pytest.mark.parametrize("wanted", ["auto", "mixed_bfloat16"])
@pytest.mark.parametrize("capabilities", [[(8, 0)], [(9, 0), (8, 6)]])
def test_graphics_cards_with_bfloat16_use_it(cards, caplog, wanted, capabilities):
    cards(*capabilities)
    assert choose_precision(wanted) == "mixed_bfloat16"
    assert not caplog.records


@pytest.mark.parametrize("wanted", ["auto", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("capabilities", "named"), [([(7, 5)], "7.5"), ([None], "unknown"), ([(8, 0), (7, 0)], "8.0, 7.0")]
)
def test_graphics_cards_without_bfloat16_use_float32_and_say_so(cards, caplog, wanted, capabilities, named):
    cards(*capabilities)
    assert choose_precision(wanted) == "float32"
    (record,) = caplog.records
    assert f"precision is float32 instead of {wanted}" in record.getMessage()
    assert f"compute capability {named}, needed 8.0" in record.getMessage()


def test_float32_asks_for_no_graphics_card(cards, caplog):
    cards((7, 5))
    assert choose_precision("float32") == "float32"
    assert not caplog.records


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_named_precision_is_taken_whatever_the_processor(processor, policy):
    processor("fpu")
    assert choose_precision(policy) == policy


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"must be one of auto, float32, mixed_bfloat16\. Received: 'float8'"):
        choose_precision("float8")
