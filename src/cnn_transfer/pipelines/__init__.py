"""The stages as Kedro pipelines; they meet in the catalog only."""
