"""The graph as a person sees it: the static site of kedro-viz in headless Chromium."""

import functools
import http.server
import json
import threading

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.slow

LAYERS = ["raw", "intermediate", "primary", "models", "model_output", "reporting"]
STAGES = {"preprocess", "pretrain_source", "migrate_model", "finetune_target", "evaluate"}


@pytest.fixture(scope="module")
def built(finished_project, fresh_kedro):
    """The folder of the static site."""
    result = fresh_kedro(finished_project, "viz", "build", "--include-previews")
    assert result.returncode == 0, result.stdout
    return finished_project / "build"


@pytest.fixture
def site(built):
    """The address of the built site, served on loopback."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=built)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_every_dataset_has_its_layer_and_the_layers_have_an_order(built):
    graph = json.loads((built / "api/main").read_text())
    assert graph["layers"] == LAYERS  # none at all when layers lead in a circle
    datasets = {node["name"]: node["layer"] for node in graph["nodes"] if node["type"] == "data"}
    assert set(datasets.values()) == set(LAYERS)
    assert datasets["target_features"] == datasets["source_model"] == datasets["delivered_model"] == "models"
    assert datasets["depth_plot"] == "reporting"


def test_tables_and_pictures_are_previewed_as_what_they_are(built):
    graph = json.loads((built / "api/main").read_text())
    ids = {node["name"]: node["id"] for node in graph["nodes"] if node["type"] == "data"}
    panels = {name: json.loads((built / "api/nodes" / number).read_text()) for name, number in ids.items()}
    kinds = {name: panel["preview_type"] for name, panel in panels.items() if panel.get("preview")}
    assert set(kinds.values()) == {"TablePreview", "ImagePreview", "JSONPreview"}  # of another kind nothing is shown
    assert kinds["target_trials"] == "TablePreview"


def node_names(page):
    return {node.text for node in page.find_elements(By.CSS_SELECTOR, ".pipeline-node__text")}


def test_layers_of_no_pipeline_lead_in_a_circle(built):
    graphs = {path.name: json.loads(path.read_text()) for path in (built / "api/pipelines").iterdir()}
    assert {"transfer", "release", "release_pretrained", "export"} <= set(graphs)
    assert [name for name, graph in graphs.items() if not graph["layers"]] == []


def test_the_five_stages_are_collapsible_groups_on_the_page(site, browser):
    browser.get(site)
    wait = WebDriverWait(browser, 30, ignored_exceptions=[StaleElementReferenceException])  # the page draws itself anew
    wait.until(lambda page: node_names(page) >= STAGES)
    layers = {layer.text for layer in browser.find_elements(By.CSS_SELECTOR, "[class*='layer']")}
    assert layers >= {"raw", "intermediate", "primary", "models", "reporting"}  # model_output is inside evaluate
    assert not node_names(browser) & {"plan", "migrate"}
    groups = browser.find_elements(By.CSS_SELECTOR, ".pipeline-node__text")
    group = next(node for node in groups if node.text == "migrate_model")
    webdriver.ActionChains(browser).move_to_element(group).double_click().perform()
    wait.until(lambda page: node_names(page) >= {"plan", "migrate"})
