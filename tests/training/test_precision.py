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


@pytest.mark.usefixtures("processor")
def test_auto_is_float32_where_the_system_does_not_say():
    assert choose_precision("auto") == "float32"


def test_auto_is_float32_where_no_flags_are_listed(processor, tmp_path):
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd bf16\n")
    assert choose_precision("auto") == "float32"


@pytest.mark.parametrize(("capability", "policy"), [((8, 0), "mixed_bfloat16"), ((7, 5), "float32"), (None, "float32")])
def test_auto_takes_bfloat16_on_a_graphics_card_that_has_it(processor, monkeypatch, capability, policy):
    import tensorflow as tf

    processor("fpu")
    details = {} if capability is None else {"compute_capability": capability}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["card"] if kind == "GPU" else [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda card: details)
    assert choose_precision("auto") == policy


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_named_precision_is_taken_whatever_the_machine(processor, policy):
    processor("fpu")
    assert choose_precision(policy) == policy


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"must be one of auto, float32, mixed_bfloat16\. Received: 'float8'"):
        choose_precision("float8")
