"""One night through the Airflow DAG, in this process, with its progress on the screen: what `make demo` runs.

Takes the trigger's parameters as JSON, as `airflow dags test nightly_recommendations --conf` does, which would say
everything but how far the night has come. The exit code is 0 when the DAG run succeeds.
"""

import json
import logging
import sys
from pathlib import Path

DAG = "nightly_recommendations"


def main(conf: str) -> int:
    from airflow.configuration import conf as configuration
    from airflow.dag_processing.dagbag import BundleDagBag

    show_progress()
    folder = Path(configuration.get_mandatory_value("core", "dags_folder"))
    bag = BundleDagBag(folder, bundle_path=folder, bundle_name="dags-folder")
    dag_run = bag.dags[DAG].test(run_conf=json.loads(conf))
    print(f"DAG run {dag_run.run_id}: {dag_run.state}", flush=True)
    return 0 if dag_run.state == "success" else 1


def show_progress() -> None:
    """What the night says goes to the screen as it is, past Airflow's own format and level."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    night = logging.getLogger("nightshelf")
    night.setLevel(logging.INFO)
    night.addHandler(handler)
    night.propagate = False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
