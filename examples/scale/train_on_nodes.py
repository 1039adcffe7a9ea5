"""Train on several machines: ``train_on_nodes.py MUSIC RUN MACHINES PROCESSES``, started by torchrun or srun."""

import sys

import musgenre
from musgenre.datasets import AudioFolder, holdout


def main(music: str, run: str, *, machines: int, processes: int) -> None:
    train, valid = holdout(AudioFolder(music))
    musgenre.finetune(
        train,
        valid=valid,
        directory=run,
        resume=True,  # the same command goes on after a pause
        num_nodes=machines,
        devices=processes,  # on each machine
        strategy="ddp",
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], machines=int(sys.argv[3]), processes=int(sys.argv[4]))
