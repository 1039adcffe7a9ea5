"""Train on several nodes: ``train_on_nodes.py MUSIC RUN NODES PROCESSES``, started by torchrun or srun."""

import sys

import musgenre
from musgenre.datasets import AudioFolder, holdout


def main(music: str, run: str, *, nodes: int, processes: int) -> None:
    train, valid = holdout(AudioFolder(music))
    musgenre.finetune(
        train,
        valid=valid,
        directory=run,
        resume=True,  # the same command resumes an interrupted run
        num_nodes=nodes,
        devices=processes,  # per node
        strategy="ddp",
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], nodes=int(sys.argv[3]), processes=int(sys.argv[4]))
