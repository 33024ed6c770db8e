import click
import pytest
from kedro.pipeline import Pipeline, node

from cnn_transfer.run_selection import check_options, check_runner, check_selection


def nothing(given):
    return given


REGISTERED = {
    "preprocess": Pipeline([node(nothing, "raw", "images", name="preprocess.split_images", tags="slow")]),
    "evaluate": Pipeline([node(nothing, "images", "report", name="evaluate.write_report")]),
}
REGISTERED["__default__"] = REGISTERED["preprocess"] + REGISTERED["evaluate"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pipeline_names": ["evaluate", "preprocess"]},
        {"node_names": ["evaluate.write_report"], "tags": []},
        {"tags": ["slow"]},
        {"from_inputs": ["images"]},
    ],
)
def test_what_is_there_passes(options):
    check_selection(options, REGISTERED)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"pipeline_names": ["evalute"]},
            "There is no pipeline evalute. Did you mean evaluate? There are: evaluate, preprocess.",
        ),
        (
            {"from_nodes": ["evaluate.write_reprot"]},
            "There is no node evaluate.write_reprot. Did you mean evaluate.write_report? They are listed by: "
            "kedro registry describe __default__",
        ),
        ({"tags": ["quick"]}, "There is no tag quick. There are: slow."),
        ({"pipeline_names": ["evaluate"], "tags": ["slow"]}, "There is no tag slow. No node has one."),
        ({"to_outputs": ["nothing"]}, "Nothing was run. Pipeline does not contain datasets named"),
        ({"from_inputs": ["images"], "to_outputs": ["images"]}, "Nothing was run. Pipeline contains no nodes"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(options, expected):
    with pytest.raises(click.ClickException) as refused:
        check_selection(options, REGISTERED)
    assert refused.value.message.startswith(expected)


@click.command()
@click.option("--params", "-p")
@click.option("--tags", multiple=True)
@click.option("--quiet", is_flag=True)
def command(params, tags, quiet):
    """What Kedro's has: options that hold one value, several, and none."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--params", "seed=1"],
        ["--params=seed=1,target_images=--params"],
        ["--tags", "a", "--tags", "b", "--quiet", "--quiet"],
    ],
)
def test_options_that_are_given_once_or_may_be_repeated_pass(arguments):
    check_options(click.Context(command), arguments)
    check_options(None, ["--params", "--params"])


@pytest.mark.parametrize("arguments", [["--params", "a=1", "--params", "b=2"], ["--params=a=1", "-p", "b=2"]])
def test_an_option_of_which_only_the_last_would_be_read_is_refused(arguments):
    with pytest.raises(click.ClickException, match=r"--params was given 2 times, and Kedro reads the last alone"):
        check_options(click.Context(command), arguments)


def test_a_runner_that_does_not_go_on_is_refused_where_the_run_is_named():
    check_runner("ThreadRunner", None)
    with pytest.raises(click.ClickException, match=r"the run nightly has made stays as it is, and ThreadRunner would"):
        check_runner("ThreadRunner", "nightly")
