"""A whole program: PBT by swarmjax. `python -m paper.whole_swarmjax FOLDER`."""

import json
import sys
from pathlib import Path

import swarmjax as sj
from paper import whole_data as search


def main(folder: str) -> None:
    """Searches, and prints the best validation accuracy as JSON."""
    train, valid = search.make_data()
    space = sj.Space(
        learning_rate=sj.log_uniform(search.LOW, search.HIGH),
        depth=sj.structure(1),
        width=sj.structure(search.WIDTH),
    )
    result = sj.run(
        task=sj.tasks.task("whole", train, valid, batch=search.BATCH),
        space=space,
        policy="pbt",
        members=search.MEMBERS,
        budget=search.MEMBERS * search.STEPS,
        round_steps=search.EVERY,
        # The peers return one network too.
        ensemble=0,
        directory=Path(folder) / "run",
    )
    print(json.dumps({"valid_accuracy": float(result.best.scores["valid_accuracy"])}))


if __name__ == "__main__":
    main(sys.argv[1])
